// Draws points by WebGL2: one buffer of places, one of colours, one call a layer.

const VERTEX = `#version 300 es
in vec2 place;
in vec4 colour;
uniform vec2 centre;
uniform vec2 scale;
uniform highp float size;
flat out lowp vec4 shade;
void main() {
  gl_Position = vec4((place - centre) * scale, 0.0, 1.0);
  gl_PointSize = size;
  shade = colour;
}`;

// Round, with a soft edge: needs blending.
const SOFT = `#version 300 es
precision mediump float;
flat in lowp vec4 shade;
uniform highp float size;
out lowp vec4 pixel;
void main() {
  float inside = size * (0.5 - length(gl_PointCoord - 0.5)) + 0.5;
  if (inside <= 0.0) discard;
  float opacity = shade.a * min(inside, 1.0);
  pixel = vec4(shade.rgb * opacity, opacity);
}`;

// Whole pixels, for very many points: a small square is all that a small disc would be.
const HARD = `#version 300 es
precision lowp float;
flat in lowp vec4 shade;
out lowp vec4 pixel;
void main() {
  pixel = vec4(shade.rgb, 1.0);
}`;

const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

let isFast;

/** Whether this browser has WebGL2 on a graphics card, not emulated by the processor. */
export function hasFastWebGL() {
  if (isFast !== undefined) return isFast;
  const canvas = document.createElement("canvas");
  const gl = canvas.getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  const names = gl?.getExtension("WEBGL_debug_renderer_info");
  const renderer = gl ? String(gl.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER)) : "";
  isFast = gl !== null && !SOFTWARE.test(renderer);
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return isFast;
}

export class PointPainter {
  /** canvas: where to draw. An Error where the browser has no WebGL2. */
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", {
      alpha: false, // an opaque layer costs less to put on the screen
      antialias: false,
      depth: false,
      stencil: false,
      powerPreference: "high-performance",
    });
    if (!this.gl) throw new Error("This browser has no WebGL2.");
    this.layers = [];
    this.prepare();
  }

  /** Whether the browser took the context away, for now. */
  get isLost() {
    return this.gl.isContextLost();
  }

  /** Makes programs and buffers, at the start and after the browser took the context away. */
  prepare() {
    const { gl } = this;
    this.soft = this.#program(SOFT);
    this.hard = this.#program(HARD);
    this.places = gl.createBuffer();
    this.colours = gl.createBuffer();
    this.points = gl.createVertexArray();
    gl.bindVertexArray(this.points);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  #program(fragment) {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, fragment],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "colour");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`The map's shaders did not link: ${gl.getProgramInfoLog(program)}`);
    }
    const at = {};
    for (const name of ["centre", "scale", "size"]) at[name] = gl.getUniformLocation(program, name);
    return { program, at };
  }

  /**
   * What is to be drawn, in the order of drawing.
   * places: Float32Array of x, y, ...; colours: Uint32Array of bytes r, g, b, a; layers: how many
   * points lie in each layer, the lowest first.
   */
  load(places, colours, layers) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
    gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.bufferData(gl.ARRAY_BUFFER, colours, gl.STATIC_DRAW);
    this.layers = layers;
  }

  /**
   * Draws a frame. centre: [x, y] in data units; scale: device pixels a unit; size: of a
   * point, in device pixels; isSoft: round with soft edges; share: how much of each layer is drawn,
   * from its beginning; paper: [r, g, b] behind the points.
   */
  draw({ centre, scale, size, isSoft, share, paper }) {
    const { gl, canvas } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...paper.map((value) => value / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const { program, at } = isSoft ? this.soft : this.hard;
    (isSoft ? gl.enable : gl.disable).call(gl, gl.BLEND);
    gl.useProgram(program);
    gl.uniform2f(at.centre, ...centre);
    gl.uniform2f(at.scale, (2 * scale) / canvas.width, (2 * scale) / canvas.height);
    gl.uniform1f(at.size, size);
    gl.bindVertexArray(this.points);
    let from = 0;
    for (const count of this.layers) {
      const drawn = Math.ceil(count * share);
      if (drawn) gl.drawArrays(gl.POINTS, from, drawn);
      from += count;
    }
  }

  /** Resolves to true once all that was asked for is drawn; to false if the context was lost. */
  finished() {
    const { gl } = this;
    const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    return new Promise((resolve) => {
      const look = () => {
        if (!fence || gl.isContextLost()) return resolve(false);
        if (gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED) return setTimeout(look, 2);
        gl.deleteSync(fence);
        return resolve(true);
      };
      setTimeout(look, 0);
    });
  }

  /** Frees what the graphics card holds. */
  destroy() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
