"use strict";
// Everything essential stands in the page without this; it adds scrubbing, the comparator's modes and copying.
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.documentElement.classList.add("js");

  const links = all(".strip a"), tracks = one("#tracks"), cursor = one("#cursor");
  const frames = links.map((link) => document.getElementById(`frame-${link.dataset.id}`));
  const lanes = all(".lane"), lane = links.map((link) => lanes.indexOf(link.closest(".lane")));
  const column = links.map((link) => [...link.parentElement.parentElement.children].indexOf(link.parentElement));
  const mark = (index, on) => {
    for (const element of [frames[index], links[index]]) element.classList.toggle("current", on);
    if (on) links[index].setAttribute("aria-current", "true"); else links[index].removeAttribute("aria-current");
  };
  let now = -1;
  const show = (index) => {
    if (index === now || index < 0) return;
    if (now >= 0) mark(now, false);
    mark(now = index, true);
    const item = links[now].parentElement;
    cursor.style.left = `${item.offsetLeft + item.offsetWidth / 2 - 1}px`;
    if (item.offsetLeft < tracks.scrollLeft || item.offsetLeft + item.offsetWidth > tracks.scrollLeft + tracks.clientWidth)
      tracks.scrollLeft = item.offsetLeft - tracks.clientWidth / 2;
  };
  // The frame of a lane that is nearest to a column; of the lane that is shown, any number of steps away.
  const nearest = (which, place) => links.reduce((best, _, index) => lane[index] !== which ? best
    : best < 0 || Math.abs(column[index] - place) < Math.abs(column[best] - place) ? index : best, -1);
  const along = (steps) => {
    const own = links.map((_, index) => index).filter((index) => lane[index] === lane[now]);
    return own[Math.max(0, Math.min(own.length - 1, own.indexOf(now) + steps))];
  };
  const across = (steps) => nearest(Math.max(0, Math.min(lanes.length - 1, lane[now] + steps)), column[now]);
  if (links.length) {
    one(".hint").hidden = cursor.hidden = false;
    one("#viewer").setAttribute("aria-live", "polite");
    const named = frames.findIndex((frame) => `#${frame.id}` === location.hash);
    show(named >= 0 ? named : Math.max(0, frames.findIndex((frame) => frame.classList.contains("start"))));
    const steps = { ArrowLeft: () => along(-1), ArrowRight: () => along(1), Home: () => along(-Infinity), End: () => along(Infinity), PageUp: () => along(-10), PageDown: () => along(10) };
    if (lanes.length > 1) Object.assign(steps, { ArrowUp: () => across(-1), ArrowDown: () => across(1) });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, .scroll, button");
      const far = !["ArrowLeft", "ArrowRight"].includes(event.key) && event.target !== tracks; // these scroll the page elsewhere
      if (!steps[event.key] || typing || far || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      show(steps[event.key]());
    });
    const at = (event) => {
      const over = lanes.indexOf(event.target.closest(".lane")), which = over < 0 ? lane[now] : over;
      const strip = lanes[which].querySelector(".strip"), box = strip.getBoundingClientRect();
      show(nearest(which, Math.floor((event.clientX - box.left) / box.width * strip.children.length)));
    };
    const scrubs = (event) => event.pointerType === "mouse" && !event.target.closest("summary");
    tracks.addEventListener("pointerdown", (event) => { if (scrubs(event)) at(event); });
    tracks.addEventListener("pointermove", (event) => { if (event.buttons === 1 && scrubs(event)) at(event); });
    links.forEach((link, index) => {
      link.draggable = false;
      link.tabIndex = -1; // one stop for the whole strip, whose keys do the rest
      link.addEventListener("click", (event) => { event.preventDefault(); show(index); });
    });
    addEventListener("resize", () => { const index = now; mark(now, false); now = -1; show(index); });
  }

  const pair = one(".pair[data-mode]");
  if (pair) {
    let timer = 0;
    one(".modes").hidden = false;
    const buttons = all(".modes button"), swiper = one("#swiper");
    const choose = (mode) => {
      const again = mode === "blink" && pair.dataset.mode === "blink";
      clearInterval(timer);
      if (calm && again) { pair.classList.toggle("off"); return; } // who wants no motion turns the pages by hand
      pair.classList.remove("off");
      pair.dataset.mode = mode;
      one(".swiper").hidden = mode !== "swipe";
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
      if (mode === "blink" && !calm) timer = setInterval(() => pair.classList.toggle("off"), 700);
    };
    buttons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.mode)));
    swiper.addEventListener("input", () => pair.style.setProperty("--cut", `${swiper.value}%`));
  }

  const copy = one("#copy");
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", () => navigator.clipboard.writeText(one("#command").textContent).then(() => { copy.textContent = "Copied"; }, () => { copy.hidden = true; }));
  }
})();
