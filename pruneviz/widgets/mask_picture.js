// One layer's mask as an image: outputs x inputs, each a tile of kernel weights. Every weight has a square of its
// own where there is room; where there is none, a pixel shows which fraction of a block of kernels is kept.

const MOST = 24; // device pixels of one weight's square: a small layer must not look important

/** A weight's shape as outputs, inputs and kernel height and width. */
export function fold(shape) {
  if (shape.length === 1) return { out: 1, in: shape[0], kh: 1, kw: 1 };
  const [out, into, ...kernel] = shape;
  const kw = kernel.length ? kernel[kernel.length - 1] : 1;
  return { out, in: into, kh: kernel.slice(0, -1).reduce((a, b) => a * b, 1), kw };
}

/** How to draw a weight of this shape in `width` x `height` device pixels. */
export function plan(shape, width, height) {
  const layer = fold(shape);
  // Outputs are rows, as in y = W x, unless that would make a tall strip (a first convolution).
  const turned = layer.out * layer.kh > 1.5 * layer.in * layer.kw;
  const rows = turned ? layer.in : layer.out;
  const cols = turned ? layer.out : layer.in;
  const fit = (tileWidth, tileHeight, gap) =>
    Math.floor(Math.min((width / cols - gap) / tileWidth, (height / rows - gap) / tileHeight));
  // [gap between tiles, the smallest square that goes with it]: a gap as wide as a square reads as a removed weight.
  const gaps = layer.kh * layer.kw > 1 ? [[2, 4], [1, 1], [0, 1]] : [[1, 5], [0, 1]];
  for (const [gap, least] of gaps) {
    const cell = Math.min(fit(layer.kw, layer.kh, gap), MOST);
    if (cell >= least) return { ...layer, turned, rows, cols, gap, cell, block: 1, kernels: false };
  }
  const block = Math.max(1, Math.ceil(Math.max(cols / width, rows / height)));
  const [r, c] = [Math.ceil(rows / block), Math.ceil(cols / block)];
  const cell = Math.min(MOST, Math.max(1, Math.floor(Math.min(width / c, height / r))));
  return { ...layer, turned, rows: r, cols: c, gap: 0, cell, block, kernels: true };
}

/** The canvas's shades, fraction kept -> packed colour, from its CSS `outline-color` (0) to its `color` (1). */
export function shadesOf(canvas) {
  const style = getComputedStyle(canvas);
  const [on, off] = [bytesOf(style.color), bytesOf(style.outlineColor)];
  const table = new Uint32Array(256);
  const bytes = new Uint8Array(table.buffer);
  for (let step = 0; step < 256; step += 1) {
    const share = Math.sqrt(step / 255); // the square root keeps sparse blocks visible
    for (let k = 0; k < 3; k += 1) bytes[4 * step + k] = Math.round(share * on[k] + (1 - share) * off[k]);
    bytes[4 * step + 3] = 255;
  }
  // A block that keeps anything at all never looks empty.
  return (value) => table[value === 0 ? 0 : Math.max(1, Math.round(value * 255))];
}

/** Any CSS colour as four bytes. */
function bytesOf(color) {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}

/** The fraction kept in each of the plan's squares, row by row. */
function fractions(levels, index, p) {
  const [tileHeight, tileWidth] = p.kernels ? [1, 1] : [p.kh, p.kw];
  const width = p.cols * tileWidth;
  const kept = new Float32Array(p.rows * tileHeight * width);
  const total = new Float32Array(kept.length);
  const area = p.kh * p.kw;
  let i = 0;
  for (let o = 0; o < p.out; o += 1) {
    for (let n = 0; n < p.in; n += 1) {
      const row = Math.floor((p.turned ? n : o) / p.block) * tileHeight;
      const col = Math.floor((p.turned ? o : n) / p.block) * tileWidth;
      const corner = row * width + col;
      for (let k = 0; k < area; k += 1, i += 1) {
        const at = p.kernels ? corner : corner + Math.floor(k / p.kw) * width + (k % p.kw);
        total[at] += 1;
        if (levels[i] > index) kept[at] += 1;
      }
    }
  }
  return { width, values: kept.map((k, at) => k / total[at]), tileHeight, tileWidth };
}

/** Paint the mask at grid[index] as planned; `scale` is the number of device pixels in a CSS pixel. */
export function paint(canvas, levels, index, p, shade, scale) {
  const { width, values, tileHeight, tileWidth } = fractions(levels, index, p);
  const pitchX = tileWidth * p.cell + p.gap;
  const pitchY = tileHeight * p.cell + p.gap;
  resize(canvas, p.cols * pitchX - p.gap, p.rows * pitchY - p.gap, scale);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  values.forEach((value, at) => {
    const [r, c] = [Math.floor(at / width), at % width];
    const x = Math.floor(c / tileWidth) * pitchX + (c % tileWidth) * p.cell;
    const y = Math.floor(r / tileHeight) * pitchY + (r % tileHeight) * p.cell;
    const color = shade(value);
    for (let dy = 0; dy < p.cell; dy += 1) {
      const start = (y + dy) * canvas.width + x;
      pixels.fill(color, start, start + p.cell);
    }
  });
  context.putImageData(image, 0, 0);
}

/** Touched only when it changes: each time costs the browser a layout of the page. */
function resize(canvas, width, height, scale) {
  if (canvas.width === width && canvas.height === height && canvas.style.width === `${width / scale}px`) return;
  canvas.width = width;
  canvas.height = height;
  canvas.style.width = `${width / scale}px`;
  canvas.style.height = `${height / scale}px`;
}

/** How many entries of the weight's first axis (outputs, as a rule) have no weight left at grid[index]. */
export function cutOff(levels, index, shape) {
  const rows = shape.length > 1 ? shape[0] : 1;
  const size = levels.length / rows;
  let empty = 0;
  for (let row = 0; row < rows; row += 1) {
    let i = row * size;
    while (i < (row + 1) * size && levels[i] <= index) i += 1;
    if (i === (row + 1) * size) empty += 1;
  }
  return empty;
}
