/** @file Every operator of the table has cases, and every gradient rule agrees with central differences on them. */
import { describe, expect, it } from 'vitest';
import { createBuilder } from '../../../src/graph/builder.ts';
import { ops } from '../../../src/graph/ops/index.ts';
import type { OpKind } from '../../../src/graph/ops/kinds.ts';
import { gradcheck } from '../../helpers/gradcheck.ts';
import { opCases } from '../../helpers/op-cases.ts';

describe('operator table', () => {
	const covered = new Set(opCases.map((c) => c.op));
	const names = Object.keys(ops) as OpKind[];

	it('has a case for every operator of the graph', () => {
		expect(names.filter((op) => ops[op].vjp !== 'lowered' && !covered.has(op))).toEqual([]);
	});

	it('has a case with a checked gradient for every gradient rule', () => {
		const checked = new Set(opCases.filter((c) => c.gradient !== false).map((c) => c.op));
		expect(names.filter((op) => typeof ops[op].vjp === 'function' && !checked.has(op))).toEqual([]);
	});

	it('names every case of an operator differently', () => {
		const labels = opCases.map((c) => `${c.op}: ${c.name}`);
		expect(labels.filter((l, i) => labels.indexOf(l) !== i)).toEqual([]);
	});

	it('emits the operator each case is about', () => {
		for (const c of opCases) {
			const g = createBuilder('case');
			c.build(g, ...c.inputs.map(({ shape, dtype = 'float32' }, i) => g.input(`x${i}`, dtype, shape)));
			expect(
				g.nodes().map((n) => n.op),
				`${c.op}: ${c.name}`,
			).toContain(c.op);
		}
	});
});

describe('gradients agree with central differences', () => {
	for (const c of opCases) {
		if (c.gradient === false || typeof ops[c.op].vjp !== 'function') continue;
		const { gradient, build } = c;
		it(`${c.op}: ${c.name}`, () => gradcheck(build.bind(c), c.inputs, gradient));
	}
});
