"use strict";
// Everything essential stands in the page without this; it adds scrubbing, the comparator's modes and copying.
(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.documentElement.classList.add("js");

  const frames = all(".frame"), links = all(".strip a"), tracks = one("#tracks"), cursor = one("#cursor");
  let now = -1;
  const show = (index) => {
    index = Math.max(0, Math.min(frames.length - 1, index));
    if (index === now || !frames.length) return;
    if (now >= 0) { frames[now].classList.remove("current"); links[now].classList.remove("current"); links[now].removeAttribute("aria-current"); }
    now = index;
    frames[now].classList.add("current");
    links[now].classList.add("current");
    links[now].setAttribute("aria-current", "true");
    const item = links[now].parentElement;
    cursor.style.left = `${item.offsetLeft + item.offsetWidth / 2 - 1}px`;
    if (item.offsetLeft < tracks.scrollLeft || item.offsetLeft + item.offsetWidth > tracks.scrollLeft + tracks.clientWidth)
      tracks.scrollLeft = item.offsetLeft - tracks.clientWidth / 2;
  };
  if (frames.length) {
    one(".hint").hidden = cursor.hidden = false;
    one("#viewer").setAttribute("aria-live", "polite");
    const named = frames.findIndex((frame) => `#${frame.id}` === location.hash);
    show(named >= 0 ? named : Math.max(0, frames.findIndex((frame) => frame.classList.contains("start"))));
    const steps = { ArrowLeft: () => now - 1, ArrowRight: () => now + 1, Home: () => 0, End: () => frames.length - 1, PageUp: () => now - 10, PageDown: () => now + 10 };
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, .scroll, button");
      const far = !event.key.startsWith("Arrow") && event.target !== tracks; // Home and Page keys scroll the page elsewhere
      if (!steps[event.key] || typing || far || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      show(steps[event.key]());
    });
    const at = (event) => {
      const box = one(".strip").getBoundingClientRect();
      show(Math.floor((event.clientX - box.left) / box.width * frames.length));
    };
    tracks.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") at(event); });
    tracks.addEventListener("pointermove", (event) => { if (event.buttons === 1 && event.pointerType === "mouse") at(event); });
    links.forEach((link, index) => {
      link.draggable = false;
      link.addEventListener("click", (event) => { event.preventDefault(); show(index); });
    });
    addEventListener("resize", () => { const index = now; frames[now].classList.remove("current"); links[now].classList.remove("current"); now = -1; show(index); });
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
