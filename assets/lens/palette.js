// The colours, on a light page and on a dark one.

export const PALETTE = {
  light: {
    removed: "#b34e00",
    onRemoved: "#ffffff",
    empty: "#eef1f6",
    muted: "#5b6472",
    line: "#dfe3ea",
    text: "#14181f",
    accent: "#1f6feb",
    ground: "#ffffff",
    positive: [118, 42, 131],
    negative: [27, 120, 55],
    zero: [247, 247, 249],
    ramp: ["#00224e", "#2f3f6b", "#575d6d", "#6f7073", "#8a8678", "#a59c74", "#b08d1f"],
  },
  dark: {
    removed: "#ffb454",
    onRemoved: "#1a1206",
    empty: "#1b222c",
    muted: "#9aa5b4",
    line: "#2c3542",
    text: "#f0f3f7",
    accent: "#6cb0ff",
    ground: "#0f1419",
    positive: [201, 160, 220],
    negative: [127, 211, 154],
    zero: [26, 32, 41],
    ramp: ["#fee838", "#e1cc55", "#c3b369", "#a69d75", "#8f8b86", "#7c8fb5", "#6f9ae0"],
  },
};
export const MONO = "ui-monospace, Menlo, Consolas, monospace";
