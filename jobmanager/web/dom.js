// Elements made from data, and the page brought up to date with them. What comes from users only ever becomes a text node or
// an attribute's value, so it cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false)
      element.append(child);
  }
  return element;
}

/** An HTML element: h("p", {class: "note"}, "text", anotherElement, [more], null). */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const key = (node) => node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;

// What a user opened stays as it is.
const isUsers = (element, name) => name === "open" && element.nodeName === "DETAILS";

function syncAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !isUsers(old, name))
      old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isUsers(old, name))
      old.removeAttribute(name);
  }
}

function canBecome(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && key(old) === key(fresh);
}

function sync(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data)
      old.data = fresh.data;
    return;
  }
  syncAttributes(old, fresh);
  syncChildren(old, [...fresh.childNodes]);
}

function syncChildren(parent, fresh) {
  const keyed = new Map([...parent.childNodes].filter((child) => key(child) !== null).map((child) => [key(child), child]));
  let at = parent.firstChild;
  for (const child of fresh) {
    const same = key(child) !== null ? keyed.get(key(child)) : at;
    if (!same || !canBecome(same, child)) {
      parent.insertBefore(child, at);
      continue;
    }
    if (same === at)
      at = at.nextSibling;
    else
      parent.insertBefore(same, at);
    sync(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** Makes the children of parent equal to these. Elements that are there already are changed in place, so that focus,
 * selected text, scroll positions and opened details survive. data-key names elements that may move. */
export function show(parent, ...children) {
  syncChildren(parent, children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => typeof child === "string" ? document.createTextNode(child) : child));
}
