/** @file Interrupts: the first finishes, the second ends. */
import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { watchInterrupts } from '../../src/cli/interrupt.ts';

function watched() {
	const source = new EventEmitter();
	const written: string[] = [];
	const exits: number[] = [];
	const interrupt = watchInterrupts(
		source,
		(text) => written.push(text),
		(code) => exits.push(code),
	);
	return { source, written, exits, interrupt };
}

describe('interrupts', () => {
	it('end at once while nothing asks to finish', () => {
		const { source, exits, written } = watched();
		source.emit('SIGINT');
		source.emit('SIGTERM');
		expect(exits).toEqual([130, 143]);
		expect(written).toEqual([]);
	});

	it('first say what is finished and abort, then end at once', () => {
		const { source, exits, written, interrupt } = watched();
		interrupt.finishOnInterrupt('finishing this step and saving');
		source.emit('SIGINT');
		expect(exits).toEqual([]);
		expect(interrupt.signal.aborted).toBe(true);
		expect(interrupt.signal.reason).toBe('SIGINT');
		expect(written).toEqual(['\nfinishing this step and saving; Ctrl-C again stops at once\n']);
		source.emit('SIGINT');
		expect(exits).toEqual([130]);
	});

	it('end with the code of the second signal', () => {
		const { source, exits, interrupt } = watched();
		interrupt.finishOnInterrupt('finishing');
		source.emit('SIGTERM');
		expect(interrupt.signal.reason).toBe('SIGTERM');
		source.emit('SIGINT');
		expect(exits).toEqual([130]);
	});

	it('are the process’s own again after dispose', () => {
		const { source, interrupt } = watched();
		interrupt.dispose();
		expect(source.listenerCount('SIGINT') + source.listenerCount('SIGTERM')).toBe(0);
	});
});
