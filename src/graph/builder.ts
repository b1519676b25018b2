/** @file Builds graphs: one typed function per operator, each inferring its output's shape at once. */
import { DiffusionPipeError } from '../core/errors.ts';
import { type DType, describe, type Shape, type Tensor, tensor, toNumbers } from '../core/tensor.ts';
import { elementwiseFunctions } from './builder/elementwise.ts';
import { productFunctions } from './builder/product.ts';
import { shapeFunctions } from './builder/shape.ts';
import { inferNode } from './infer.ts';
import type { OpKind } from './ops/kinds.ts';
import type { Attributes, Graph, Node, Value, ValueName } from './types.ts';

/** A value, or a number that becomes a scalar constant of the other operand's type. */
export type Operand = Value | number;

/** Adds a node and returns its outputs. */
export type Emit = (op: OpKind, inputs: readonly (Value | undefined)[], attributes?: Attributes, outputCount?: number) => readonly Value[];

/** What the operator functions are made of. */
export interface EmitTools {
	readonly emit: Emit;
	/** The single output of a node. */
	one(op: OpKind, inputs: readonly (Value | undefined)[], attributes?: Attributes): Value;
	/** Turns an operand into a value of `dtype`. */
	operand(x: Operand, dtype: DType): Value;
	/** An int64 vector constant. */
	ints(values: readonly number[]): Value;
	constant(t: Tensor, name?: string): Value;
}

export interface BuilderCore extends EmitTools {
	/** Declares a graph input. */
	input(name: string, dtype: DType, shape: Shape): Value;
	scalar(value: number, dtype?: DType): Value;
	/** The data of `v` as numbers when it is a constant of this graph. */
	constantOf(v: Value): number[] | undefined;
	/** Runs `body` with `name` added to the layer path. */
	scope<T>(name: string, body: () => T): T;
	/** The nodes made so far (for passes that build on a builder, such as differentiation). */
	nodes(): readonly Node[];
	/** The graph of everything built so far, with these outputs. */
	finish(outputs: readonly Value[]): Graph;
}

export type GraphBuilder = BuilderCore &
	ReturnType<typeof elementwiseFunctions> &
	ReturnType<typeof productFunctions> &
	ReturnType<typeof shapeFunctions>;

/** A builder of one graph; `base` continues from an existing graph's nodes, inputs and constants. */
export function createBuilder(graphName: string, base?: Graph): GraphBuilder {
	const inputs: ValueName[] = base ? [...base.inputs] : [];
	const nodes: Node[] = base ? [...base.nodes] : [];
	const values = new Map<ValueName, Value>(base?.values);
	const constants = new Map<ValueName, Tensor>(base?.constants);
	const known = new Map<string, Value>();
	const path: string[] = [];
	let counter = values.size;

	const declare = (name: string, dtype: DType, shape: Shape): Value => {
		if (values.has(name as ValueName)) {
			throw new DiffusionPipeError('graph', `value ${name} is declared twice`, { place: `graph ${graphName}` });
		}
		const value: Value = { name: name as ValueName, dtype, shape: [...shape] };
		values.set(value.name, value);
		return value;
	};
	const scopePath = () => path.join('.');
	const freshName = (op: string) => {
		const prefix = path.length > 0 ? `${scopePath()}/` : '';
		let name: string;
		do name = `${prefix}${op}_${counter++}`;
		while (values.has(name as ValueName));
		return name;
	};
	const constant = (t: Tensor, name?: string): Value => {
		// Small constants (axes, shapes, scalars) repeat by the hundred: one value each keeps graphs readable and easy to match.
		const key =
			name === undefined && t.data.length <= 16
				? `${describe(t)}:${toNumbers(t)
						.map((v) => (Object.is(v, -0) ? '-0' : v))
						.join(',')}`
				: undefined;
		const seen = key === undefined ? undefined : known.get(key);
		if (seen) return seen;
		const value = declare(name ?? freshName('const'), t.dtype, t.shape);
		constants.set(value.name, t);
		if (key !== undefined) known.set(key, value);
		return value;
	};
	const constantOf = (v: Value) => {
		const t = constants.get(v.name);
		return t && toNumbers(t);
	};
	const emit: Emit = (op, ins, attributes = {}, outputCount = 1) => {
		for (const v of ins) {
			if (v && values.get(v.name) !== v && values.get(v.name)?.name !== v.name) {
				throw new DiffusionPipeError('graph', `input ${v.name} belongs to another graph`, { place: `${scopePath() || graphName}: ${op}` });
			}
		}
		const types = inferNode({ op, inputs: ins, attributes, outputCount, constantOf, place: scopePath() || graphName });
		const outputs = types.map((t) => declare(freshName(op), t.dtype, t.shape));
		nodes.push({ op, inputs: ins.map((v) => v?.name ?? ''), outputs: outputs.map((v) => v.name), attributes, scope: scopePath() });
		return outputs;
	};
	const one: EmitTools['one'] = (op, ins, attributes) => emit(op, ins, attributes)[0]!;
	const scalar = (value: number, dtype: DType = 'float32') => constant(tensor(dtype, [], [value]));
	const operand = (x: Operand, dtype: DType) => (typeof x === 'number' ? scalar(x, dtype) : x);
	const ints = (v: readonly number[]) => constant(tensor('int64', [v.length], v));

	const core: BuilderCore = {
		emit,
		one,
		operand,
		ints,
		constant,
		constantOf,
		scalar,
		input(name, dtype, shape) {
			const value = declare(name, dtype, shape);
			inputs.push(value.name);
			return value;
		},
		scope(name, body) {
			if (name === '') return body();
			path.push(name);
			try {
				return body();
			} finally {
				path.pop();
			}
		},
		nodes: () => nodes,
		finish: (outputs) => ({
			name: graphName,
			inputs: [...inputs],
			outputs: outputs.map((v) => v.name),
			nodes: [...nodes],
			values: new Map(values),
			constants: new Map(constants),
		}),
	};
	return { ...core, ...elementwiseFunctions(core), ...productFunctions(core), ...shapeFunctions(core) };
}
