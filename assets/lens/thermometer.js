// The temperature of the strip: how likely each unit is removed in the Boltzmann ensemble at T, or how often it
// is in the listed states.

import { element } from "./dom.js";
import { significant } from "./wording.js";

const LISTED = "list";
const SAFE = 0.95; // removed with this probability: safe to remove at a temperature
const WANTED = 10; // gaps, where nobody says

export class Thermometer {
  constructor(lens) {
    this.lens = lens;
    this.chosen = null; // gaps, "noise" or "list"; null: as it is where nobody says
    this.ticks = element("datalist", { id: "noise-of-the-ground-state" });
    this.slider = element("input", { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("list", this.ticks.id);
    this.slider.setAttribute("aria-label", "Temperature of the bars above the strip");
    this.slider.addEventListener("input", () => {
      const stop = this.stops[Number(this.slider.value) - 1];
      this.chosen = stop ? this.called(stop) : LISTED;
      this.lens.heated();
    });
    this.slider.addEventListener("keydown", (e) => e.stopPropagation()); // arrows move it
    this.said = element("span", { className: "said" });
    this.bar = element(
      "div",
      { className: "bar" },
      element("label", {}, "T ", this.slider),
      this.ticks,
      this.said,
    );
  }
  get stops() {
    return this.lens.model.temperatures;
  }
  called({ gaps, noise }) {
    return noise ? "noise" : String(Math.round(gaps));
  }
  get stop() {
    // the temperature that is shown; undefined: the listed states, each alike
    if (this.chosen === LISTED) return undefined;
    const asked = this.stops.find((stop) => this.called(stop) === this.chosen);
    const known = this.stops.filter((stop) => !stop.noise && stop.how !== "unknown");
    return asked ?? known.findLast((stop) => stop.gaps < WANTED + 0.5);
  }
  share() {
    // of each unit, 0 to 1; null: not known
    const { stop } = this;
    if (!stop) return this.lens.model.frequency;
    return stop.how === "unknown" ? null : stop.probability;
  }
  get at() {
    // "T = 1.2 ·10⁻⁵ (10 gaps)"
    const { stop } = this;
    const { model } = this.lens;
    const gaps = significant(stop.gaps, stop.gaps < 1000 ? 3 : 4).replace(/\.0+$/, "");
    const about = `${gaps} gap${gaps === "1" ? "" : "s"}`;
    return `T = ${model.worded(stop.temperature)} (${stop.noise ? "the noise of E₀, " : ""}${about})`;
  }
  get words() {
    const { model } = this.lens;
    return this.stop
      ? `probability of removal at ${this.at}: ${this.sure}`
      : `share of the ${model.count} listed states that remove a ${model.word}`;
  }
  get sure() {
    const { how, error } = this.stop;
    if (how === "exact") return "exact";
    return how === "bounded"
      ? `at most ${significant(Math.max(100 * error, 0.001), 1)} % off`
      : "only sampling tells, page Landscape";
  }
  paint() {
    const { stop, stops } = this;
    this.slider.max = stops.length;
    this.slider.disabled = !stops.length;
    this.slider.value = stop ? stops.indexOf(stop) + 1 : 0;
    const noise = stops.findIndex((one) => one.noise) + 1;
    this.ticks.replaceChildren(...(noise ? [element("option", { value: noise })] : []));
    const text = this.words;
    this.said.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
    this.said.title =
      `${text}. A state of energy E has the weight exp(−E/T). What is removed almost surely is safe to remove at ` +
      "this temperature, whichever of the low states is taken" +
      (noise
        ? "; the mark on the slider is the standard error of E₀, below which the ranking is noise."
        : ".");
  }
  sentence(unit) {
    // of a unit, to follow how often it is in the list; nothing where that is what the bars show
    const { stop } = this;
    const share = this.share();
    if (!stop || !share) return "";
    const p = share[unit];
    const safe = p - stop.error >= SAFE ? ", safe to remove at this temperature" : "";
    const percent = p > 0.995 && p < 1 ? "over 99" : p < 0.005 && p > 0 ? "under 1" : (100 * p).toFixed(0);
    return `, with a probability of ${percent} % at ${this.at}${safe}`;
  }
}
