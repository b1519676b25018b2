/** @file Inference of one node: what names it accepts. */
import { describe, expect, it } from 'vitest';
import { createBuilder } from '../../src/graph/builder.ts';
import { readAttributes } from '../../src/graph/op.ts';
import type { OpKind } from '../../src/graph/ops/kinds.ts';
import { graphError } from '../helpers/graph-error.ts';

describe('names that every object inherits', () => {
	it.each(['constructor', 'toString', '__proto__'])('%s is neither an attribute nor an operator', (name) => {
		const attributes = Object.fromEntries([[name, 1]]);
		expect(graphError((g, x) => g.emit('Softmax', [x], attributes), [{ shape: [2] }])).toContain(`attribute ${name} is not known`);
		expect(graphError((g, x) => g.emit(name as OpKind, [x]), [{ shape: [2] }])).toContain(`operator ${name} is not known`);
	});

	it.each(['constructor', 'toString', '__proto__'])('%s has no value where none is given', (name) => {
		const reader = readAttributes('Test', Object.fromEntries([[name, { kind: 'int' }]]), {});
		expect(reader.has(name)).toBe(false);
		expect(() => reader.int(name)).toThrow(`attribute ${name} is missing`);
		expect(() => readAttributes('Test', {}, {}).int(name)).toThrow(`no int attribute ${name}`);
	});
});

it('takes the default of an attribute that is not given', () => {
	const g = createBuilder('defaults');
	const x = g.input('x', 'float32', [2, 3]);
	expect(g.one('Flatten', [x]).shape).toEqual([2, 3]);
	expect(g.one('Flatten', [x], { axis: 0 }).shape).toEqual([1, 6]);
});
