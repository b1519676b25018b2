import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { planDocument, readPlan } from '../../src/plan/plan-json.ts';
import type { Plan } from '../../src/plan/types.ts';
import { sampleResult } from '../helpers/plans.ts';

const { plan } = sampleResult({ stages: 2, microBatches: 2, pipelines: 2 });
type Change = readonly [path: string, value: unknown];

/** The plan as a file would hold it, changed by path. */
function raw(...changes: readonly Change[]): unknown {
	const document = JSON.parse(JSON.stringify(planDocument(plan)));
	for (const [path, value] of changes) {
		const keys = path.split('.');
		const at = keys.slice(0, -1).reduce((o, key) => o[key], document);
		if (value === undefined) delete at[keys.at(-1)!];
		else at[keys.at(-1)!] = value;
	}
	return document;
}
function failure(...changes: readonly Change[]): DiffusionPipeError {
	try {
		readPlan(raw(...changes), 'plan.json');
	} catch (error) {
		if (error instanceof DiffusionPipeError) return error;
		throw error;
	}
	throw new Error('read without an error');
}

describe('plans as JSON', () => {
	it('come back as they were, with the time of what does not fit as null', () => {
		expect(plan.baselines.map((b) => b.iterationMs)).toContain(Number.POSITIVE_INFINITY);
		expect(JSON.stringify(planDocument(plan))).toContain('"iterationMs":null');
		expect(readPlan(raw())).toEqual(plan);
	});

	it('keep what iterations with self-conditioning do', () => {
		const more: Plan = { ...plan, selfConditioning: { probability: 0.5, iterationMs: 12, rows: plan.rows, fill: [], moves: [] } };
		expect(readPlan(JSON.parse(JSON.stringify(planDocument(more))))).toEqual(more);
	});

	it.each([
		['batch', -1, 'plan.json: batch', 'has a wrong value'],
		['batch', 30, 'plan.json: batch', 'does not part evenly'],
		['iterationMs', 'fast', 'plan.json: iterationMs', 'has a wrong value'],
		['iteration', 3, 'plan.json', 'there is no key iteration'],
		['version', 2, 'plan.json: version', 'of a version that is not known'],
		['stages', undefined, 'plan.json', 'stages is missing'],
		['stages.1.layers', [4, 4], 'plan.json: stages[1].layers', 'holds no layer'],
		['stages.1.rank', 2, 'plan.json: stages[1].rank', 'is no rank'],
		['stages.1.rank', 0, 'plan.json: stages', 'do not agree on rank 1'],
		['stages.1.devices', [1], 'plan.json: stages[1].devices', 'has another length than pipelines * replicas'],
		['stages.1.devices', [1, 4], 'plan.json: stages[1].devices[1]', 'is no device'],
		['rows', ['0F0'], 'plan.json: rows', 'has another length than ranks'],
		['rows.1', '7F0', 'plan.json: rows[1]', 'runs a stage that is not there'],
		['rows.1', '1F2', 'plan.json: rows[1]', 'runs a micro-batch that is not there'],
		['fill.0.endMs', -1, 'plan.json: fill[0].endMs', 'has a wrong value'],
		['fill.3.startMs', 1e9, 'plan.json: fill[3].endMs', 'lies before its start'],
		['fill.0.samples', [0, 1000], 'plan.json: fill[0].samples', 'are no samples of the batch'],
	])('%s = %j is refused by name', (path, value, place, what) => {
		const error = failure([path, value]);
		expect([error.kind, error.parts.place]).toEqual(['input', place]);
		expect(error.what).toContain(what);
	});

	it('a row that is no schedule names its cell', () => {
		expect(failure(['rows.0', '0F0,0X1']).parts).toMatchObject({ place: 'plan.json: rows[0], cell 1', found: '"0X1"' });
	});

	it('anything else is refused without a TypeError', () => {
		for (const value of [null, 3, 'plan', [], {}]) expect(() => readPlan(value, 'x.json')).toThrow(DiffusionPipeError);
	});
});
