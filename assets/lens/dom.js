// Elements of the page, made in one call.

export const element = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
};

// base64 of little-endian bytes, as core.view.encoding writes it
export const decode = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

export const button = (textContent, label, onclick, className = "") => {
  const node = element("button", { type: "button", textContent, onclick, className, title: label });
  node.setAttribute("aria-label", label);
  return node;
};
