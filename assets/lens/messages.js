// What the page sends to the lens and what the lens sends back, as core/view/messages.py has it, where each
// field is explained. Types only.

/**
 * @typedef {object} TreeData
 * @property {string} valley
 * @property {string} survivor
 * @property {string} dying
 * @property {string} saddle
 * @property {string[]} orders
 * @property {boolean} whole
 */

/**
 * @typedef {object} TemperatureData
 * @property {number} temperature
 * @property {number} gaps
 * @property {boolean} noise
 * @property {string} how
 * @property {number} error
 * @property {string} removed
 */

/**
 * @typedef {object} LandscapeData
 * @property {number} blocks
 * @property {string[]} names
 * @property {number[]} block
 * @property {string} word
 * @property {number | null} removed
 * @property {number} count
 * @property {string} sizes
 * @property {string} states
 * @property {string} energy
 * @property {string} own
 * @property {string} changed
 * @property {string} pearson
 * @property {string} minimum
 * @property {string[]} hash
 * @property {number[][]} ranks
 * @property {string} matrix
 * @property {number[][]} edges
 * @property {string} frequency
 * @property {number} exponent
 * @property {number} tolerance
 * @property {boolean} exact
 * @property {TreeData} tree
 * @property {TemperatureData[]} temperatures
 * @property {string} title
 * @property {string} unit
 * @property {string[]} kinds
 * @property {number[]} parameters
 * @property {number[]} kv
 * @property {number} total_parameters
 * @property {Object<string, string>} warnings
 * @property {number[]} [keep]
 * @property {number[]} [remove]
 * @property {string} [source]
 * @property {string} [version]
 */

/**
 * @typedef {object} PickData
 * @property {number[]} removed
 * @property {string} hash
 * @property {number | null} rank
 * @property {number} energy
 * @property {number | null} delta
 * @property {number | null} pearson
 * @property {number | null} diversity
 * @property {string | null} reason
 */

/**
 * @typedef {object} MarkData
 * @property {number[]} removed
 * @property {string} label
 * @property {number | null} rank
 * @property {number | null} delta
 * @property {number} energy
 * @property {string} reason
 * @property {string} hash
 * @property {boolean} own
 */

/**
 * @typedef {object} Snippets
 * @property {string} python
 * @property {string} cli
 */

/**
 * @typedef {object} FileData
 * @property {string} kind
 * @property {string} text
 */

/**
 * @typedef {object} LensData
 * @property {Object<string, Array>} measured
 * @property {LandscapeData} landscape
 * @property {PickData[]} tray
 * @property {MarkData[]} marks
 * @property {number[]} cursor
 * @property {number} seq
 * @property {number} moves
 * @property {string | null} panel
 * @property {string} look
 * @property {Snippets} snippets
 * @property {FileData[]} files
 */

/**
 * @typedef {"add" | "drop" | "keep" | "remove" | "free" | "prune" | "open" | "mark" | "unmark" | "panel" |
 *   "compare" | "pick" | "basins" | "file"} Ask
 */

/**
 * @typedef {object} Asked
 * @property {Ask} ask
 * @property {number[]} [state]
 * @property {number} [unit]
 * @property {string | null} [panel]
 * @property {string} [kind]
 */

/**
 * @typedef {object} Commit
 * @property {number} seq
 * @property {number[] | null} cursor
 * @property {string} look
 * @property {string} source
 * @property {Asked[]} asks
 */

export {};
