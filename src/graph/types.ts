/** @file The graph: plain data that can be printed, hashed, sent to a worker and written as ONNX (opset 21 vocabulary). */
import type { DType, Shape, Tensor } from '../core/tensor.ts';
import type { OpKind } from './ops/index.ts';

/** Name of a value, unique within its graph. Branded so that layer paths and slots are not mixed up with it. */
export type ValueName = string & { readonly __brand: 'ValueName' };

/** A typed, shaped edge of the graph. */
export interface Value {
	readonly name: ValueName;
	readonly dtype: DType;
	readonly shape: Shape;
}

/** What an ONNX attribute can hold here. Whole and real numbers are told apart by the operator's attribute table. */
export type AttributeValue = number | string | readonly number[] | readonly string[];
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** One application of an operator. An input of '' is an omitted optional input, as in ONNX. */
export interface Node {
	readonly op: OpKind;
	readonly inputs: readonly (ValueName | '')[];
	readonly outputs: readonly ValueName[];
	readonly attributes: Attributes;
	/** Path of the layer that made it, e.g. `transformer_blocks.0.attn1.to_q`; '' outside any layer. */
	readonly scope: string;
}

/** Nodes are in topological order. `values` has every input, constant and node output; `constants` the data of constants. */
export interface Graph {
	readonly name: string;
	readonly inputs: readonly ValueName[];
	readonly outputs: readonly ValueName[];
	readonly nodes: readonly Node[];
	readonly values: ReadonlyMap<ValueName, Value>;
	readonly constants: ReadonlyMap<ValueName, Tensor>;
}

/** The value called `name`; throws an internal error when the graph has none. */
export function valueNamed(graph: Graph, name: ValueName): Value {
	const value = graph.values.get(name);
	if (!value) throw new Error(`graph ${graph.name} has no value ${name}`);
	return value;
}
