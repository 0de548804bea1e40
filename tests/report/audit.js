// What a person would see amiss on the page, as sentences; evaluated in it by audit.py.
(() => {
  const bad = [], wide = document.documentElement.clientWidth;
  const every = (selector) => [...document.querySelectorAll(selector)];
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().height > 0 && !e.closest(".unseen");
  const named = (e) => e.tagName.toLowerCase() + (e.id && `#${e.id}`) + (e.getAttribute("class") ? `.${e.getAttribute("class")}` : "");

  if (document.documentElement.scrollWidth > wide) bad.push(`the page is ${document.documentElement.scrollWidth} wide, not ${wide}`);
  for (const e of every("body *")) {
    const box = e.getBoundingClientRect();
    if (seen(e) && !e.closest(".tracks, .scroll, svg") && (box.right > wide + 1 || box.left < -1))
      bad.push(`${named(e)} reaches from ${box.left | 0} to ${box.right | 0}`);
  }
  for (const e of every(".tracks figcaption, .lane-name, .lane > details > summary").filter(seen)) { // they stay while the strip is scrolled
    const box = e.getBoundingClientRect(), room = document.querySelector(".tracks").getBoundingClientRect();
    if (box.left < room.left - 1 || box.right > room.right + 1) bad.push(`${named(e)} is cut off by the edge of the filmstrip`);
  }

  // WCAG 2.2, 1.4.3: relative luminance of a text's colour against that of the nearest ground that is painted.
  const paint = (text) => { const [r, g, b, a = 1] = text.match(/[0-9.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const below = paint(getComputedStyle(e).backgroundColor);
      if (below.a === 1) return below.rgb;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), least = matchMedia("print").matches ? 7 : 11;
  let judged = 0;
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, words = texts.currentNode.data.trim().slice(0, 40);
    if (!words || !seen(e) || e.closest("svg, script, style")) continue;
    const [a, b] = [light(paint(getComputedStyle(e).color).rgb), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    judged += 1;
    if (ratio < 4.5) bad.push(`${named(e)} has a contrast of ${ratio.toFixed(2)}: ${words}`);
    if (parseFloat(getComputedStyle(e).fontSize) < least) bad.push(`${named(e)} is too small to read: ${words}`);
    const box = e.getBoundingClientRect();
    if (words.length > 12 && box.width < 24) bad.push(`${named(e)} is squeezed to ${box.width | 0} pixels: ${words}`);
  }
  if (judged < 40) bad.push(`only ${judged} texts are shown`);

  for (const e of every("img")) {
    if (!e.hasAttribute("alt")) bad.push(`${named(e)} has no alternative text`);
    if (seen(e) && !(e.complete && e.naturalWidth > 0)) bad.push(`${named(e)} is broken`);
  }
  for (const e of every("svg"))
    if (!e.closest("[aria-hidden]") && !e.hasAttribute("aria-hidden") && !(e.getAttribute("role") === "img" && e.getAttribute("aria-label")))
      bad.push(`${named(e)} says nothing to those who do not see it`);
  const ids = every("[id]").map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push(`two elements are called ${id}`);
  for (const name of ["aria-labelledby", "aria-describedby"])
    for (const e of every(`[${name}]`)) if (!ids.includes(e.getAttribute(name))) bad.push(`${named(e)} is named by what is nowhere`);
  for (const e of every('a[href^="#"]')) if (!ids.includes(e.getAttribute("href").slice(1))) bad.push(`${named(e)} leads nowhere`);
  const levels = every("h1, h2, h3").filter(seen).map((e) => +e.tagName[1]);
  levels.forEach((level, i) => { if (level > (levels[i - 1] ?? 0) + 1) bad.push(`a heading of level ${level} comes after ${levels[i - 1]}`); });
  return [...new Set(bad)].slice(0, 20);
})()
