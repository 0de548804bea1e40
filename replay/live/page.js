"use strict";
// The list follows what arrives: asked for again by its ETag, and only what changed is exchanged, so that focus, scroll
// position and a form that is being filled in stay. Without a script the page is whole, and is loaded again by hand.
(() => {
  const news = document.querySelector("#news");
  let tag = "";

  function exchange(fresh) {
    for (const id of ["count", "problems"]) {
      document.getElementById(id).replaceChildren(...fresh.getElementById(id).childNodes);
    }
    for (const select of document.querySelectorAll("select")) {
      if (select === document.activeElement) continue;
      const chosen = select.value;
      select.replaceChildren(...fresh.querySelector(`select[name="${select.name}"]`).children);
      select.value = chosen;
    }
    const list = document.querySelector("#incidents");
    const next = [...fresh.querySelector("#incidents").children];
    const wanted = new Map(next.map((item) => [item.id, item]));
    for (const item of [...list.children]) {
      if (!item.id || !wanted.has(item.id)) item.remove();
    }
    let arrived = 0;
    let at = list.firstElementChild;
    for (const item of next) {
      const old = item.id && document.getElementById(item.id);
      if (old && old === at) {
        at = at.nextElementSibling;
        if (old.innerHTML !== item.innerHTML) old.replaceWith(item);
        continue;
      }
      if (!old && item.id) {
        item.classList.add("new");
        arrived += 1;
      }
      list.insertBefore(old || item, at);
    }
    return arrived;
  }

  async function look() {
    let wait = Number(document.body.dataset.seconds);
    try {
      if (document.visibilityState === "visible") {
        const headers = tag ? { "If-None-Match": tag } : {};
        const answer = await fetch(location.href, { headers, cache: "no-store" });
        const clock = new Date().toLocaleTimeString();
        if (answer.status === 200) {
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
          document.body.dataset.seconds = fresh.body.dataset.seconds;
          const arrived = exchange(fresh);
          tag = answer.headers.get("ETag") || "";
          if (arrived) news.textContent = `${arrived} new at ${clock}`;
        } else if (answer.status !== 304) {
          news.textContent = "The server is another one now: open the address that the command printed.";
          return;
        }
      }
    } catch (error) {
      news.textContent = "The server does not answer: the list is as it was.";
      wait = 30;
    }
    setTimeout(look, wait * 1000);
  }

  setTimeout(look, Number(document.body.dataset.seconds) * 1000);
})();
