// What a reader cannot see or must scroll for, as lists of lines; see Look in conftest.py.
(smallest) => {
  const name = (element) => {
    const label = element.id ? `#${element.id}` : [...element.classList].map((each) => `.${each}`).join("");
    return `${element.localName}${label}: ${element.textContent.trim().replace(/\s+/g, " ").slice(0, 60)}`;
  };
  const isShown = (element) => {
    const box = element.getBoundingClientRect();
    const inside = box.right > 0 && box.left < innerWidth && box.width > 1 && box.height > 1;
    return inside && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  };
  const ownText = (element) =>
    [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const shown = [...document.body.querySelectorAll("*")].filter(isShown);
  const wide = shown.filter(
    (element) => element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1,
  );
  const overflow = (element) => getComputedStyle(element).overflowX;

  const cut = wide.filter((element) => ["hidden", "clip"].includes(overflow(element))).map(name);
  for (const label of shown.filter((element) => element instanceof SVGTextElement)) {
    const drawing = label.ownerSVGElement.getBoundingClientRect();
    const box = label.getBoundingClientRect();
    if (box.left < drawing.left - 1 || box.right > drawing.right + 1 ||
        box.top < drawing.top - 1 || box.bottom > drawing.bottom + 1) cut.push(name(label));
  }

  const sideways = wide.filter((element) => ["auto", "scroll"].includes(overflow(element))).map(name);
  const page = document.documentElement;
  if (page.scrollWidth > innerWidth) sideways.push(`page: ${page.scrollWidth} in ${innerWidth} pixels`);

  const small = shown.filter(ownText).filter((element) => {
    const scale = element instanceof SVGGraphicsElement ? element.getScreenCTM().a : 1;
    return parseFloat(getComputedStyle(element).fontSize) * scale < smallest;
  }).map(name);
  return { cut, sideways, small };
}
