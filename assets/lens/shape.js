// The minima of the listed states, what drains into each, and the barriers between them. A minimum is told by
// its position among them, a state by its rank.

import { decode } from "./dom.js";

const LEAVES = 30; // leaves of a tree, where nobody says

export class Shape {
  constructor(m) {
    const { tree } = m;
    this.m = m;
    this.whole = tree.whole;
    this.valley = decode(tree.valley, Int32Array);
    this.orders = tree.orders.map((order) => decode(order, Uint16Array));
    this.parent = m.minima.map(() => -1); // the minimum whose part it joins
    this.saddle = m.minima.map(() => -1); // in this state
    const [survivor, dying, saddle] = ["survivor", "dying", "saddle"].map((name) =>
      decode(tree[name], Uint16Array),
    );
    dying.forEach((i, b) => {
      this.parent[i] = survivor[b];
      this.saddle[i] = saddle[b];
    });
    this.basin = m.minima.map(() => 0); // listed states that drain into it
    for (const i of this.valley) if (i >= 0) this.basin[i] += 1;
  }
  get count() {
    return this.m.minima.length;
  }
  delta(i) {
    return this.m.delta(this.m.minima[i]);
  }
  barrier(i) {
    // to a lower minimum, above the ground state; Infinity where the list does not say
    return this.saddle[i] < 0 ? Infinity : this.m.delta(this.saddle[i]);
  }
  depth(i) {
    // how far it lies below its barrier; at least so far, where the list does not say
    return Math.min(this.barrier(i), this.m.top) - this.delta(i);
  }
  order(wanted) {
    // the most persistent minima from left to right
    return this.orders.find((order) => order.length === Number(wanted ?? LEAVES)) ?? this.orders.at(-1);
  }
  holder(k) {
    // the minimum on whose branch a listed state stands at its own height; -1: it drains out of the list
    let i = this.valley[k];
    while (i >= 0 && this.parent[i] >= 0 && this.barrier(i) < this.m.delta(k)) i = this.parent[i];
    return i;
  }
  shown(i, kept) {
    // the minimum itself, or the one of `kept` that it joins first; -1: none
    while (i >= 0 && !kept.has(i)) i = this.parent[i];
    return i;
  }
  route(i) {
    // from a minimum towards the ground state, each one that the one before joins
    const found = [i];
    while (this.parent[found.at(-1)] >= 0) found.push(this.parent[found.at(-1)]);
    return found;
  }
  toGround(k) {
    // the barrier between a listed state and the ground state, above that; Infinity: not connected in the list
    if (this.valley[k] < 0) return Infinity;
    const route = this.route(this.valley[k]);
    if (route.at(-1) !== 0) return Infinity;
    return Math.max(this.m.delta(k), route.length > 1 ? this.barrier(route.at(-2)) : 0);
  }
}
