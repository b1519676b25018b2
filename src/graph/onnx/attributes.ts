/** @file Attributes of ONNX nodes: from the file's form to the form of the operator's table. */
import { nearestName } from '../../core/errors.ts';
import type { AttributeSpec, OpDef } from '../op.ts';
import { shortestDecimal } from '../text.ts';
import type { Attributes, AttributeValue } from '../types.ts';
import type { AttributeProto } from './schema.ts';

/** Throws an input error that names the file, the node, what is wrong and what was expected. */
export type Fail = (what: string, parts?: { expected?: string; found?: string; hint?: string }) => never;

/** The node's attributes as the operator's table has them. Fails at an unknown one (naming the nearest) and at a value of another kind. */
export function attributesFor(def: OpDef, protos: ReadonlyMap<string, AttributeProto>, fail: Fail): Attributes {
	const attributes: Record<string, AttributeValue> = {};
	for (const [name, proto] of protos) {
		const spec = Object.hasOwn(def.attributes, name) ? def.attributes[name] : undefined;
		attributes[name] = spec ? valueFor(spec.kind, name, proto, fail) : refuse(name, proto, Object.keys(def.attributes), fail);
	}
	return attributes;
}

function refuse(name: string, proto: AttributeProto, names: readonly string[], fail: Fail): never {
	const near = nearestName(name, names);
	return fail(`attribute ${name} is not supported`, {
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
