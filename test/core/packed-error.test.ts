/** @file Errors that cross between threads. */
import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { packError, unpackError } from '../../src/core/packed-error.ts';

const crossed = (error: unknown) => unpackError(structuredClone(packError(error, 'worker 3')));

describe('an error sent to another thread', () => {
	it('arrives whole', () => {
		const error = new DiffusionPipeError('input', 'is odd:\nvery', { place: 'a: b', expected: 'even', found: '3\n4', hint: 'add one' });
		const back = crossed(error);
		expect(back).toBeInstanceOf(DiffusionPipeError);
		expect([back.message, back.kind, back.what, back.parts]).toEqual([error.message, error.kind, error.what, error.parts]);
	});

	it('leaves behind a cause, which may hold what cannot be copied', () => {
		const cause = Object.assign(new Error('below'), { callback: () => {} });
		const back = crossed(new DiffusionPipeError('engine', 'failed', { place: 'device 1', cause }));
		expect([back.message, back.parts, back.cause]).toEqual(['device 1: failed', { place: 'device 1' }, undefined]);
	});

	it('is an internal one, with its place and stack, when it was of another class', () => {
		const back = crossed(new TypeError('x is not a function'));
		expect(back.kind).toBe('internal');
		expect(back.message).toMatch(/^worker 3: TypeError: x is not a function\n +at /);
		expect(crossed('thrown as text').message).toBe('worker 3: thrown as text');
	});
});
