// Elements of the page, made in one call.

export const element = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
};

export const button = (textContent, label, onclick, className = "") => {
  const node = element("button", { type: "button", textContent, onclick, className, title: label });
  node.setAttribute("aria-label", label);
  return node;
};
