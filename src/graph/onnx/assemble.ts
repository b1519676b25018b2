/** @file A graph in the making: values, constants and nodes as a file names them, with arithmetic on constants carried out at once. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { makeArray, type Shape, type Tensor, type TypeShape, toNumbers } from '../../core/tensor.ts';
import { evaluateNode } from '../evaluate.ts';
import { inferNode } from '../infer.ts';
import type { OpDef } from '../op.ts';
import { type OpKind, ops } from '../ops/index.ts';
import type { Graph, Node, Value, ValueName } from '../types.ts';

/** Results of more elements are left to be computed: folding is for shapes, index tables and masks. */
const maxFoldedElements = 1 << 16;

/** One node to add; an output of '' is given a name. */
export interface NewNode extends Omit<Node, 'outputs'> {
	readonly outputs: readonly string[];
	/** What errors call it. */
	readonly place: string;
}

/** The graph so far. Every function throws an input error when a value would be defined twice or has no name. */
export interface Assembly {
	readonly graph: Graph;
	/** Declares a graph input. */
	input(name: string, type: TypeShape, place: string): void;
	/** Declares a constant. */
	define(name: string, value: Tensor, place: string): void;
	/** Name of a constant with this content, made from `hint`; small ones that repeat (axes, shapes) are shared. */
	add(hint: string, value: Tensor, place: string): string;
	/** An unused name that begins with `hint`. */
	fresh(hint: string): string;
	/** Adds a node, or its results as constants when all its inputs are constant and small. */
	node(node: NewNode): void;
	/** The finished graph, without constants that nothing reads. */
	finish(): Graph;
}

/** Starts a graph; `names` are those the file uses, which `fresh` keeps clear of. */
export function createAssembly(name: string, outputs: readonly string[], names: Iterable<string>): Assembly {
	const inputs: ValueName[] = [];
	const nodes: Node[] = [];
	const values = new Map<ValueName, Value>();
	const constants = new Map<ValueName, Tensor>();
	const graph: Graph = { name, inputs, outputs: outputs as readonly ValueName[], nodes, values, constants };
	const taken = new Set(names);
	const results = new Set(outputs);
	const shared = new Map<string, string>();

	const declare = (name: string, { dtype, shape }: TypeShape, place: string): ValueName => {
		const key = name as ValueName;
		if (name === '') throw new DiffusionPipeError('input', 'a value has no name', { place });
		if (values.has(key)) throw new DiffusionPipeError('input', `value ${name} is defined twice`, { place });
		values.set(key, { name: key, dtype, shape });
		return key;
	};
	const define = (name: string, value: Tensor, place: string): void => {
		constants.set(declare(name, value, place), value);
	};
	const fresh = (hint: string): string => {
		let name = hint;
		for (let i = 1; taken.has(name); i++) name = `${hint}_${i}`;
		taken.add(name);
		return name;
	};

	/** What an input is to evaluation: its data, or for Shape, which does not look at them, no data. */
	const tensorOf = (op: OpKind, value: Value): Tensor | undefined =>
		constants.get(value.name) ?? (op === 'Shape' ? { ...value, data: makeArray(value.dtype, 0) } : undefined);

	return {
		graph,
		define,
		fresh,
		input(name, type, place) {
			inputs.push(declare(name, type, place));
		},
		add(hint, value, place) {
			const key = value.data.length <= 16 ? `${hint}:${value.dtype}[${value.shape}]${value.data}` : undefined;
			const seen = key === undefined ? undefined : shared.get(key);
			if (seen !== undefined) return seen;
			const name = fresh(hint);
			define(name, value, place);
			if (key !== undefined) shared.set(key, name);
			return name;
		},
		node({ place, ...node }) {
			const { op, attributes } = node;
			const ins = node.inputs.map((name) => (name === '' ? undefined : values.get(name)));
			const types = inferNode({
				op,
				inputs: ins,
				attributes,
				outputCount: node.outputs.length,
				place,
				constantOf: (v) => {
					const t = constants.get(v.name);
					return t && toNumbers(t);
				},
			});
			const outputs = types.map((type, i) => declare(node.outputs[i] || fresh(`${op}_unused`), type, place));
			const made: Node = { ...node, outputs };
			const tensors = ins.map((v) => v && tensorOf(op, v));
			const known = ins.every((v, i) => !v || tensors[i]);
			const elements = [...types, ...(op === 'Shape' ? [] : ins)].reduce((n, t) => n + (t ? extent(t.shape) : 0), 0);
			const def: OpDef = ops[op];
			// Windows of a damaged file can be of any size, whatever the size of what they give.
			const cheap = def.cost !== 'heavy' && !('kernel_shape' in def.attributes) && elements <= maxFoldedElements;
			if (known && cheap && !outputs.some((o) => results.has(o))) {
				evaluateNode(graph, made, tensors, place).forEach((t, i) => {
					constants.set(outputs[i]!, t);
				});
			} else nodes.push(made);
		},
		finish() {
			const read = new Set<string>([...outputs, ...nodes.flatMap((n) => n.inputs)]);
			const kept = new Map([...constants].filter(([name]) => read.has(name)));
			return { ...graph, constants: kept, values: new Map([...values].filter(([name]) => kept.has(name) || !constants.has(name))) };
		},
	};
}

/** Work a shape stands for: its elements, but with empty axes as 1, so that [0, 2^40] is not small. */
function extent(shape: Shape): number {
	return shape.reduce((n, d) => n * Math.max(d, 1), 1);
}
