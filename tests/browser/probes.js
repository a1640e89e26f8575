// Stop-watches for tests.bench: they run in the page, so that the browser's own clock measures.
const lens = () => [...document.querySelectorAll("*")].map((n) => n.shadowRoot?.querySelector(".lens")).find(Boolean);
const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

// milliseconds from Enter in the field of M to the frame that shows a state of m blocks
window.untilChips = async (m) => {
  const field = document.querySelector("[data-testid=stNumberInputField]"), began = performance.now();
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", code: "Enter", keyCode: 13, bubbles: true }));
  while (lens().querySelectorAll(".chip").length !== m && performance.now() - began < 20000) await new Promise((r) => setTimeout(r, 4));
  await frame();
  return performance.now() - began;
};

// milliseconds from each of n presses of the down arrow to the frame after it
window.pressDown = async (n) => {
  const times = [], target = lens().querySelector(".frame");
  for (let i = 0; i < n; i++) {
    const began = performance.now();
    target.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
    await frame();
    times.push(performance.now() - began);
  }
  return times;
};

// milliseconds of work for each of n moves: find what is under the pointer, then redraw every overlay
window.hoverMoves = async (n) => {
  const times = [], canvas = lens().querySelector(".panel.levels canvas.over"), box = canvas.getBoundingClientRect();
  const plain = window.requestAnimationFrame;
  let work = 0;
  const timed = (action) => { const began = performance.now(); action(); work += performance.now() - began; };
  window.requestAnimationFrame = (f) => plain((t) => timed(() => f(t)));
  for (let i = 0; i < n; i++) {
    const x = box.left + 40 + (i * 37) % (box.width - 50), y = box.top + 20 + (i * 53) % (box.height - 60);
    work = 0;
    timed(() => canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true })));
    await new Promise((done) => plain(() => plain(done)));
    times.push(work);
  }
  window.requestAnimationFrame = plain;
  return times;
};
