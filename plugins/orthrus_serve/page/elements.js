// Elements of the page. Texts become text nodes, and never markup.

/** Return a rejected draft on one line, and no part of what copying takes along. */
export function rejectedDraft(texts, classes = "") {
  return element("s", `rejected ${classes}`.trim(), ...texts.map((text) => text.replaceAll("\n", "\u21b5")));
}

/** Return an element of these classes, with texts or elements in it. */
export function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}
