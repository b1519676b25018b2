/** @file Attributes of ONNX nodes: from the file's form to the form of the operator's table. */
import { nearestName } from '../../core/errors.ts';
import type { AttributeSpec, OpDef } from '../op.ts';
import { shortestDecimal } from '../text.ts';
import type { Attributes, AttributeValue } from '../types.ts';
import type { AttributeProto } from './schema.ts';

/** Throws an input error that names the file, the node, what is wrong and what was expected. */
export type Fail = (what: string, parts?: { expected?: string; found?: string; hint?: string }) => never;

/**
 * Attributes that exporters spell out and our tables do not have, with the one value each may have: ONNX's default, or what means the same.
 * Any other value changes what the operator computes and is refused.
 */
const harmless: Readonly<Record<string, (value: AttributeProto['value']) => boolean>> = {
	allowzero: isZero,
	antialias: isZero,
	auto_pad: (v) => v === 'NOTSET',
	ceil_mode: isZero,
	count_include_pad: isZero,
	// Used by cubic interpolation only, which `mode` asks for.
	cubic_coeff_a: () => true,
	dilations: (v) => Array.isArray(v) && v.every((d) => d === 1n),
	exclude_outside: isZero,
	// Used by tf_crop_and_resize only, which `coordinate_transformation_mode` asks for.
	extrapolation_value: () => true,
	keep_aspect_ratio_policy: (v) => v === 'stretch',
	noop_with_empty_axes: isZero,
	reduction: (v) => v === 'none',
	saturate: (v) => v === 1n,
	select_last_index: isZero,
	stash_type: (v) => v === 1n,
	storage_order: isZero,
};

function isZero(value: AttributeProto['value']): boolean {
	return value === 0n;
}

/**
 * The node's attributes as the operator's table has them. Drops attributes of no effect; fails at unknown ones (naming the nearest) and at
 * values of another kind.
 */
export function attributesFor(def: OpDef, protos: ReadonlyMap<string, AttributeProto>, fail: Fail): Attributes {
	const attributes: Record<string, AttributeValue> = {};
	for (const [name, proto] of protos) {
		const spec = Object.hasOwn(def.attributes, name) ? def.attributes[name] : undefined;
		if (spec) attributes[name] = valueFor(spec.kind, name, proto, fail);
		else if (!(Object.hasOwn(harmless, name) && harmless[name]!(proto.value))) refuse(def, name, proto, fail);
	}
	return attributes;
}

function refuse(def: OpDef, name: string, proto: AttributeProto, fail: Fail): never {
	const names = Object.keys(def.attributes);
	const near = nearestName(name, names);
	return fail(Object.hasOwn(harmless, name) ? `attribute ${name} has an unsupported value` : `attribute ${name} is not supported`, {
		expected: names.join(', ') || 'no attributes',
		found: `${name} = ${describeAttribute(proto)}`,
		...(near === undefined ? {} : { hint: `the nearest supported attribute is ${near}` }),
	});
}

function describeAttribute({ kind, value }: AttributeProto): string {
	if (kind === 'tensor' || kind === 'other') return `(${kind})`;
	return String(value).slice(0, 80);
}

function valueFor(kind: AttributeSpec['kind'], name: string, proto: AttributeProto, fail: Fail): AttributeValue {
	if (proto.kind !== kind) return fail(`attribute ${name} is of another kind`, { expected: kind, found: proto.kind });
	switch (proto.kind) {
		case 'int':
			return wholeNumber(proto.value, name, fail);
		case 'ints':
			return proto.value.map((v) => wholeNumber(v, name, fail));
		case 'float':
			return shortestDecimal(proto.value);
		case 'floats':
			return proto.value.map(shortestDecimal);
		case 'string':
			return proto.value;
	}
}

/** An integer of the file as a number; fails beyond 2^53. */
export function wholeNumber(value: bigint, name: string, fail: Fail): number {
	const number = Number(value);
	return Number.isSafeInteger(number)
		? number
		: fail(`attribute ${name} is too large`, { expected: 'a whole number below 2^53', found: `${value}` });
}
