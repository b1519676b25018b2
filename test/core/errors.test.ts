/** @file The message of an error, its parts, and the names it suggests. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DiffusionPipeError, nearestName, unreachable } from '../../src/core/errors.ts';

describe('DiffusionPipeError', () => {
	it('has one line for each part given', () => {
		const error = new DiffusionPipeError('config', 'is not known', {
			place: 'train.toml, key lr',
			expected: 'learning_rate',
			found: 'lr',
			hint: 'rename it',
		});
		expect(error.message).toBe('train.toml, key lr: is not known\n  expected: learning_rate\n  found: lr\n  try: rename it');
		expect(error).toBeInstanceOf(Error);
		expect([error.name, error.kind]).toEqual(['DiffusionPipeError', 'config']);
	});

	it('is one line when only the place is known', () => {
		expect(new DiffusionPipeError('input', 'is empty', { place: 'a.png' }).message).toBe('a.png: is empty');
		expect(new DiffusionPipeError('input', 'is empty', { place: 'a.png', found: '0 bytes' }).message).toBe(
			'a.png: is empty\n  found: 0 bytes',
		);
	});

	it('keeps what it is made of', () => {
		const parts = { place: 'graph g: node 3', expected: 'float32', found: 'bool' };
		const error = new DiffusionPipeError('graph', 'element types differ:\nboth lines', parts);
		expect([error.what, error.parts]).toEqual(['element types differ:\nboth lines', parts]);
		expect(new DiffusionPipeError(error.kind, error.what, error.parts).message).toBe(error.message);
	});

	it('carries its cause as errors do', () => {
		const cause = new Error('below');
		expect(new DiffusionPipeError('engine', 'failed', { place: 'device 1', cause }).cause).toBe(cause);
		expect('cause' in new DiffusionPipeError('engine', 'failed', { place: 'device 1' })).toBe(false);
	});
});

describe('nearestName', () => {
	it('finds a mistyped name', () => {
		const keys = ['learning_rate', 'batch_size', 'steps', 'seed', 'lr'];
		expect(nearestName('learnign_rate', keys)).toBe('learning_rate');
		expect(nearestName('Batch-Size', keys)).toBe('batch_size');
		expect(nearestName('step', keys)).toBe('steps');
		expect(nearestName('sede', keys)).toBe('seed');
		expect(nearestName('LR', keys)).toBe('lr');
	});

	it('takes the nearest, and the first of equals', () => {
		expect(nearestName('conw', ['cone', 'conv', 'convs'])).toBe('cone');
		expect(nearestName('gathers', ['GatherND', 'Gather'])).toBe('Gather');
	});

	it('stays silent where a name is too short to tell', () => {
		const operators = ['Div', 'Or', 'Elu', 'Exp', 'Not', 'Floor', 'Sign'];
		for (const name of ['If', 'Loop', 'Det', 'x', '']) expect(nearestName(name, operators)).toBeUndefined();
		expect(nearestName('anything', [])).toBeUndefined();
	});

	it('undoes any one slip in a name', () => {
		const slips = fc
			.record({
				name: fc.stringMatching(/^[a-z]{3,12}$/),
				at: fc.nat(),
				letter: fc.constantFrom('q', '_'),
				kind: fc.constantFrom('drop', 'add', 'change', 'exchange'),
			})
			.map(({ name, at, letter, kind }) => {
				const k = at % (name.length - 1);
				const [start, a, b, end] = [name.slice(0, k), name[k]!, name[k + 1]!, name.slice(k + 2)];
				const slip = { drop: b, add: a + letter + b, change: letter + b, exchange: b + a }[kind]!;
				return { name, given: start + slip + end };
			});
		fc.assert(fc.property(slips, ({ name, given }) => nearestName(given, ['unrelated_option', name]) === name));
	});
});

it('unreachable throws an internal error that shows the value', () => {
	const wrong = { op: 'jump' } as never;
	expect(() => unreachable(wrong, 'device')).toThrow('device: unhandled case {"op":"jump"}');
});
