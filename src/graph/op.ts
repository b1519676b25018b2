/** @file What every operator must say about itself: its form, its shapes, its gradient and its meaning. */
import { DiffusionPipeError } from '../core/errors.ts';
import type { Tensor, TypeShape } from '../core/tensor.ts';
import type { GraphBuilder } from './builder.ts';
import type { Attributes, AttributeValue, Value } from './types.ts';

/** How an attribute is written in ONNX, with its default; `required` has none. */
export type AttributeSpec =
	| { readonly kind: 'int'; readonly default?: number /** Ours alone: ONNX has no such attribute. */; readonly unwritten?: true }
	| { readonly kind: 'float'; readonly default?: number }
	| { readonly kind: 'string'; readonly default?: string }
	| { readonly kind: 'ints'; readonly default?: readonly number[] }
	| { readonly kind: 'floats'; readonly default?: readonly number[] };

/** Typed access to a node's attributes with the operator's defaults filled in. */
export interface AttributeReader {
	int(name: string): number;
	float(name: string): number;
	string(name: string): string;
	ints(name: string): readonly number[];
	/** True when the node or the operator's default gives a value. */
	has(name: string): boolean;
}

/** What shape inference may look at. */
export interface InferContext {
	/** Inputs in order; undefined where an optional input is omitted. */
	readonly inputs: readonly (TypeShape | undefined)[];
	readonly attributes: AttributeReader;
	/** Number of outputs asked for (Split, LayerNormalization). */
	readonly outputCount: number;
	/** Input `i`, which must be there. */
	input(i: number): TypeShape;
	/** The data of input `i` when it is a constant, as numbers; undefined when omitted; throws when it is not constant. */
	constant(i: number): number[] | undefined;
	/** Throws a graph error that names the operator, shapes and layer path. */
	fail(what: string, expected?: string): never;
}

/** What a gradient rule may use: it adds nodes through `g` and returns one gradient per input (undefined: none flows). */
export interface VjpContext {
	readonly g: GraphBuilder;
	readonly inputs: readonly (Value | undefined)[];
	readonly outputs: readonly Value[];
	/** Gradients of the outputs; undefined where nothing flows back. At least one is defined. */
	readonly grads: readonly (Value | undefined)[];
	/** Which inputs need a gradient: rules should not build what is not needed. */
	readonly needs: readonly boolean[];
	readonly attributes: AttributeReader;
	/** Raw attributes, for rebuilding the node. */
	readonly rawAttributes: Attributes;
	input(i: number): Value;
	/** Gradient of output 0, which must be defined. */
	grad(): Value;
	/** The data of input `i` as numbers, when it is a constant. */
	constant(i: number): number[] | undefined;
}

export type Vjp = (ctx: VjpContext) => readonly (Value | undefined)[];

/** What reference evaluation sees: host tensors of any dtype; float arithmetic is done in float64 and rounded once into the output. */
export interface EvalContext {
	readonly inputs: readonly (Tensor | undefined)[];
	readonly attributes: AttributeReader;
	/** Inferred types of the outputs to produce. */
	readonly outputs: readonly TypeShape[];
	input(i: number): Tensor;
	/** Throws a graph error that names the operator and the layer path. */
	fail(what: string): never;
}

/**
 * What recomputing an operator costs: `view` moves no data (or none worth counting), `cheap` is one pass over memory,
 * `heavy` (products, convolutions, reductions of products) is never recomputed.
 */
export type Cost = 'view' | 'cheap' | 'heavy';

/** The whole of one operator. One such entry per operator stands in the table of `ops/index.ts`. */
export interface OpDef {
	/** ONNX domain; '' is ai.onnx. Operators of other domains exist only after lowering for an engine and have no gradient. */
	readonly domain?: 'com.microsoft' | 'com.microsoft.nchwc' | 'dist';
	/** Its name in ONNX, where the table has another operator of that name. */
	readonly onnxName?: string;
	/** Smallest and largest number of inputs (Infinity: variadic). */
	readonly inputs: readonly [number, number];
	/** Smallest and largest number of outputs. */
	readonly outputs: readonly [number, number];
	readonly attributes: Readonly<Record<string, AttributeSpec>>;
	readonly cost: Cost;
	infer(ctx: InferContext): readonly TypeShape[];
	/** 'none': no gradient flows (integers, comparisons); 'lowered': appears only after differentiation. */
	readonly vjp: Vjp | 'none' | 'lowered';
	evaluate(ctx: EvalContext): readonly Tensor[];
	/** Multiply-accumulates of one application, for `inspect` and the analytic cost model; absent means none. */
	macs?(inputs: readonly (TypeShape | undefined)[], outputs: readonly TypeShape[], attributes: AttributeReader): number;
}

/** Attribute access for a node of operator `op`, checking kinds against the operator's table. */
export function readAttributes(op: string, specs: OpDef['attributes'], attributes: Attributes): AttributeReader {
	const find = (name: string): AttributeValue | undefined => own(attributes, name) ?? own(specs, name)?.default;
	const get = (name: string, ...kinds: AttributeSpec['kind'][]): AttributeValue => {
		const spec = own(specs, name);
		if (!spec || !kinds.includes(spec.kind)) throw new DiffusionPipeError('internal', `no ${kinds[0]} attribute ${name}`, { place: op });
		const value = find(name);
		if (value === undefined) throw new DiffusionPipeError('graph', `attribute ${name} is missing`, { place: op });
		return value;
	};
	return {
		int: (name) => get(name, 'int') as number,
		float: (name) => get(name, 'float') as number,
		string: (name) => get(name, 'string') as string,
		ints: (name) => get(name, 'ints', 'floats') as readonly number[],
		has: (name) => find(name) !== undefined,
	};
}

/** What `table` itself says of `name`; what every object inherits (`constructor`, `toString`) is no entry. */
function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
	return Object.hasOwn(table, name) ? table[name] : undefined;
}
