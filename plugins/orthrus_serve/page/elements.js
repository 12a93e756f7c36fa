// Elements of the page. Texts become text nodes, and never markup.

/** Return an element of these classes, with texts or elements in it. */
export function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}
