"use strict";
// A circuit of forward and backward, computed from its inputs and shown step by step.
// The derivative rules are not here: the backward half is part of the circuit that the page holds.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const number = (x) => (typeof x === "string" ? Number(x) : x === true ? 1 : x === false ? 0 : x);

  // -- values of operations ------------------------------------------------------------------

  const sigmoid = (x) => { const e = Math.exp(-Math.abs(x)); return (x >= 0 ? 1 : e) / (1 + e); };
  const erfSeries = (x) => {
    let term = x, sum = x;
    for (let n = 1; n < 200 && Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= -x * x / n; sum += term / (2 * n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  };
  const erfcTail = (x) => { // a continued fraction, for x ≥ 2
    let f = 0;
    for (let n = 120; n > 0; n--) f = n / 2 / (x + f);
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + f);
  };
  const erfc = (x) => (x !== x ? x : x < 0 ? 2 - erfc(-x) : x < 2 ? 1 - erfSeries(x) : x > 27 ? 0 : erfcTail(x));
  const erf = (x) => (Math.abs(x) < 2 ? erfSeries(x) : x > 0 ? 1 - erfc(x) : erfc(-x) - 1);
  const bool = (x) => (x ? 1 : 0);
  const OPERATIONS = {
    add: (x, y) => x + y, subtract: (x, y) => x - y, multiply: (x, y) => x * y, divide: (x, y) => x / y,
    negative: (x) => -x, power: (x, y) => (x === 1 ? 1 : Math.pow(x, y)), abs: Math.abs,
    sign: (x) => (x !== x ? x : x > 0 ? 1 : x < 0 ? -1 : 0), floor: Math.floor,
    maximum: (x, y) => (x !== x || y !== y ? NaN : Math.max(x, y)),
    minimum: (x, y) => (x !== x || y !== y ? NaN : Math.min(x, y)),
    where: (c, x, y) => (c ? x : y), less: (x, y) => bool(x < y), less_equal: (x, y) => bool(x <= y),
    greater: (x, y) => bool(x > y), greater_equal: (x, y) => bool(x >= y),
    equal: (x, y) => bool(x === y), not_equal: (x, y) => bool(x !== y),
    logical_and: (x, y) => bool(x && y), logical_or: (x, y) => bool(x || y), logical_not: (x) => bool(!x),
    isnan: (x) => bool(x !== x), isfinite: (x) => bool(Number.isFinite(x)),
    exp: Math.exp, expm1: Math.expm1, log: Math.log, log1p: Math.log1p, log2: Math.log2, log10: Math.log10,
    sqrt: Math.sqrt, square: (x) => x * x, reciprocal: (x) => 1 / x,
    sin: Math.sin, cos: Math.cos, tan: Math.tan, arcsin: Math.asin, arccos: Math.acos, arctan: Math.atan,
    sinh: Math.sinh, cosh: Math.cosh, tanh: Math.tanh, erf, erfc, sigmoid,
    sech2: (x) => { const e = Math.exp(-2 * Math.abs(x)); return 4 * e / ((1 + e) * (1 + e)); },
    softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    relu: (x) => (x !== x ? x : Math.max(x, 0)),
    leaky_relu: (x, p) => (x > 0 ? x : p.negative_slope * x),
    clip: (x, p) => {
      if (x !== x) return x;
      let y = x;
      if (p.low !== undefined) y = Math.max(y, p.low);
      if (p.high !== undefined) y = Math.min(y, p.high);
      return y;
    },
    identity: (x) => x, stop_gradient: (x) => x, astype: (x) => x,
  };

  function compute(inputs) {
    const values = [];
    for (const [operation, operands, params] of data.cells) {
      if (operation === null) {
        const name = params;
        values.push(name !== null && name in inputs ? inputs[name] : number(operands));
      } else {
        values.push(OPERATIONS[operation](...operands.map((k) => values[k]), params));
      }
    }
    return values;
  }

  // -- what is shown -------------------------------------------------------------------------

  const text = (x, digits = 9) => {
    if (typeof x === "string") x = Number(x);
    if (Array.isArray(x)) return "array";
    if (x !== x) return "NaN";
    if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
    if (x === 0) return Object.is(x, -0) ? "-0" : "0";
    const short = Number(x.toPrecision(digits));
    return Math.abs(short) >= 1e9 || Math.abs(short) < 1e-4 ? short.toExponential() : String(short);
  };
  const inputs = {};
  for (const cell of data.cells) if (cell[0] === null && cell[2] !== null) inputs[cell[2]] = number(cell[1]);
  let values = data.live ? compute(inputs) : data.cells.map((cell) => cell[1]);

  // A step is a node of the forward pass, or an edge of the backward pass.
  const steps = [
    ...data.nodes.map((node, k) => ({ kind: "forward", node: k })),
    ...data.edges.map((edge, k) => ({ kind: "backward", edge: k, node: edge.node, source: edge.source })),
  ];
  let now = steps.length - 1;
  const last = data.nodes[data.nodes.length - 1].name;
  const find = (id) => document.getElementById(id);
  const all = (selector) => document.querySelectorAll(selector);

  function sumUpTo(source, limit) {
    let sum = 0, terms = [];
    steps.slice(0, limit + 1).forEach((s) => {
      if (s.kind === "backward" && s.source === source) {
        const c = values[data.edges[s.edge].contribution];
        sum += c; terms.push(text(c));
      }
    });
    return [sum, terms];
  }

  function sentence(step) {
    const node = data.nodes[step.node];
    if (step.kind === "forward") {
      const value = text(values[node.value]);
      if (node.op === null) return `Forward: ${node.name} = ${value}`;
      return `Forward: ${node.name} = ${node.formula} = ${value}`;
    }
    const edge = data.edges[step.edge], source = data.nodes[edge.source];
    const [total, terms] = data.live ? sumUpTo(edge.source, now) : [0, []];
    const factor = edge.local === null ? "Jacobian" : text(values[edge.local]);
    let line = `Backward: ∂${last}/∂${source.name} receives local × upstream = ` +
      `∂${node.name}/∂${source.name} × ∂${last}/∂${node.name} = ` +
      `${factor} × ${text(values[edge.upstream])} = ${text(values[edge.contribution])}`;
    if (terms.length > 1) line += `; the branches so far: ${terms.join(" + ")} = ${text(total)}`;
    return `${line}. The ${node.op} gate is a ${node.flow}.`;
  }

  // In the picture a number has room for four digits.
  const write = (e, x) => { e.textContent = text(x, e instanceof SVGElement ? 4 : 9).replace("-", e instanceof SVGElement ? "−" : "-"); };

  function show() {
    const step = steps[now];
    all("[data-value]").forEach((e) => write(e, values[data.nodes[e.dataset.value].value]));
    all("[data-gradient]").forEach((e) => {
      const g = data.nodes[e.dataset.gradient].gradient;
      if (g === null) e.textContent = "–"; else write(e, values[g]);
    });
    for (const part of ["local", "upstream", "contribution"]) {
      all(`[data-${part}]`).forEach((e) => {
        const cell = data.edges[e.dataset[part]][part];
        if (cell === null) e.textContent = "Jacobian"; else write(e, values[cell]);
      });
    }
    all("g[data-node] > title").forEach((e) => { // what a pointer that hovers is told
      const node = data.nodes[e.parentNode.dataset.node], g = node.gradient;
      const made = node.op === null ? "" : ` = ${node.formula}`;
      const slope = g === null ? "" : `\n∂${last}/∂${node.name} = ${text(values[g])}`;
      e.textContent = `${node.name}${made} = ${text(values[node.value])}${slope}`;
    });
    all("path[data-edge] > title").forEach((e) => {
      const edge = data.edges[e.parentNode.dataset.edge];
      const factor = edge.local === null ? "a Jacobian" : text(values[edge.local]);
      e.textContent = `local ${factor} × upstream ${text(values[edge.upstream])} = ` +
        text(values[edge.contribution]);
    });
    all(".lit").forEach((e) => e.classList.remove("lit"));
    all(`[data-node="${step.node}"]`).forEach((e) => e.classList.add("lit"));
    if (step.kind === "backward") all(`[data-edge="${step.edge}"]`).forEach((e) => e.classList.add("lit"));
    find("step").textContent = `${now + 1} of ${steps.length}`;
    find("sentence").textContent = sentence(step);
    find("first").disabled = find("back").disabled = now === 0;
    find("next").disabled = find("last").disabled = now === steps.length - 1;
  }

  function go(to) { now = Math.max(0, Math.min(steps.length - 1, to)); show(); }
  find("first").addEventListener("click", () => go(0));
  find("back").addEventListener("click", () => go(now - 1));
  find("next").addEventListener("click", () => go(now + 1));
  find("last").addEventListener("click", () => go(steps.length - 1));
  document.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement || event.altKey || event.ctrlKey || event.metaKey) return;
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    go(now + move);
  });
  all("input[data-input]").forEach((field) => field.addEventListener("input", () => {
    const value = Number(field.value.replace("−", "-").replace(",", "."));
    const good = field.value.trim() !== "" && !Number.isNaN(value);
    field.setAttribute("aria-invalid", String(!good));
    if (!good) return;
    inputs[field.dataset.input] = value;
    values = compute(inputs);
    show();
  }));
  go(0);
  window.chainrule = { OPERATIONS, compute, data, steps, go, values: () => values };
})();
