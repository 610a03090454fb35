// Arithmetic on levels. A weight's level is the number of grid sparsities at which it is kept, so that it is
// kept at grid[j] if and only if level > j: every count below is made by comparing and counting.

/** Levels as bytes: from base64 text (a page) or from a DataView (a live kernel); null if there are none yet. */
export function toBytes(levels) {
  if (!levels) return null;
  if (typeof levels === "string") return Uint8Array.from(atob(levels), (c) => c.charCodeAt(0));
  return new Uint8Array(levels.buffer, levels.byteOffset, levels.byteLength);
}

/** Each layer's own part of the bytes, in model order. */
export function split(bytes, layers) {
  let start = 0;
  return layers.map((layer) => bytes.subarray(start, (start += layer.size)));
}

/** kept[j] = how many of these levels are kept at grid[j]. */
export function keptAt(levels, points) {
  const exactly = new Uint32Array(256);
  for (const level of levels) exactly[level] += 1;
  const kept = new Uint32Array(points);
  let more = levels.length;
  for (let j = 0; j < points; j += 1) kept[j] = more -= exactly[j];
  return kept;
}

/** Round half to even, as Python's round() and therefore pruneviz.allocate do. */
export function roundHalfEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** The index of the grid's sparsity nearest to the one given. */
export function nearest(grid, sparsity) {
  let best = 0;
  for (let j = 1; j < grid.length; j += 1) {
    if (Math.abs(grid[j] - sparsity) < Math.abs(grid[best] - sparsity)) best = j;
  }
  return best;
}
