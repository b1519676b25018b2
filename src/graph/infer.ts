/** @file Shape inference of one node, with errors that name the operator, the shapes and the layer path. */
import { DiffusionPipeError } from '../core/errors.ts';
import { describe, type TypeShape } from '../core/tensor.ts';
import { type InferContext, readAttributes } from './op.ts';
import { isOpKind, ops } from './ops/index.ts';
import type { OpKind } from './ops/kinds.ts';
import type { Attributes, Value } from './types.ts';

export interface InferRequest {
	readonly op: OpKind;
	readonly inputs: readonly (Value | undefined)[];
	readonly attributes: Attributes;
	readonly outputCount: number;
	/** Layer path or graph name, for errors. */
	readonly place: string;
	/** Data of a constant input as numbers. */
	constantOf(v: Value): number[] | undefined;
}

/** Types of a node's outputs. Throws a graph error when the inputs or attributes do not fit the operator. */
export function inferNode({ op, inputs, attributes, outputCount, place, constantOf }: InferRequest): readonly TypeShape[] {
	const def = isOpKind(op) ? ops[op] : undefined;
	const shapes = inputs.map((v) => (v ? describe(v) : 'omitted')).join(', ');
	const fail = (what: string, expected?: string): never => {
		throw new DiffusionPipeError('graph', what, { place: `${place}: ${op}(${shapes})`, ...(expected === undefined ? {} : { expected }) });
	};
	if (!def) return fail(`operator ${op} is not known`);
	const [least, most] = def.inputs;
	if (inputs.length < least || inputs.length > most)
		fail(`${inputs.length} inputs given`, least === most ? `${least}` : `${least} to ${most}`);
	for (let i = 0; i < least; i++) if (!inputs[i]) fail(`input ${i} is omitted but required`);
	if (outputCount < def.outputs[0] || outputCount > def.outputs[1]) fail(`${outputCount} outputs asked for`, def.outputs.join(' to '));
	for (const name of Object.keys(attributes))
		if (!Object.hasOwn(def.attributes, name)) fail(`attribute ${name} is not known`, Object.keys(def.attributes).join(', ') || 'none');
	const ctx: InferContext = {
		inputs,
		attributes: readAttributes(op, def.attributes, attributes),
		outputCount,
		input: (i) => inputs[i] ?? fail(`input ${i} is missing`),
		constant(i) {
			const v = inputs[i];
			if (!v) return undefined;
			return constantOf(v) ?? fail(`input ${i} (${v.name}) must be a constant`);
		},
		fail,
	};
	const types = def.infer(ctx);
	if (types.length !== outputCount) fail(`inference gave ${types.length} outputs`, `${outputCount}`);
	for (const t of types) {
		for (const d of t.shape) if (!Number.isSafeInteger(d) || d < 0) fail(`inferred an impossible shape ${describe(t)}`);
	}
	return types;
}
