/** @file The progress of a run, on a terminal and off it. */
import { describe, expect, it } from 'vitest';
import { createProgress } from '../../src/cli/progress.ts';
import { styleFor } from '../../src/cli/style.ts';
import type { TrainEvent } from '../../src/train/events.ts';

function follow({ isTTY, columns = 80 }: { isTTY: boolean; columns?: number }) {
	const written: string[] = [];
	const output = { write: (text: string) => written.push(text), columns };
	let time = 0;
	const progress = createProgress({ output, isTTY, style: styleFor(output, {}), now: () => time });
	return {
		progress,
		text: () => written.join(''),
		wait(ms: number) {
			time += ms;
		},
	};
}

const step = (n: number, loss: number, maxSteps = 1000): TrainEvent => ({
	kind: 'step',
	step: n,
	maxSteps,
	loss,
	lr: 1e-3,
	gradNorm: 1,
	stepMs: 10,
	imagesPerSecond: 640.4,
	secondsLeft: 125,
});

describe('training progress without a terminal', () => {
	it('writes the first step, then a line every ten seconds, and the last step', () => {
		const { progress, text, wait } = follow({ isTTY: false });
		for (let n = 1; n <= 1000; n++) {
			progress.onEvent(step(n, 1));
			wait(25);
		}
		const lines = text().trimEnd().split('\n');
		expect(lines.map((line) => line.slice(0, 'step   1'.length + 1))).toEqual(['step    1', 'step  401', 'step  801', 'step 1000']);
		expect(lines[0]).toBe('step    1/1000  loss 1.000  lr 1.0e-3  640 images/s  2m 05s left');
		expect(text()).not.toContain('\r');
	});

	it('smooths the loss, beginning with the first one', () => {
		const { progress, text, wait } = follow({ isTTY: false });
		progress.onEvent(step(1, 4));
		wait(10_000);
		progress.onEvent(step(2, 2));
		// Weights 0.95 and 1, normalised: (0.95 * 4 + 2) / 1.95.
		expect(text()).toContain('loss 4.000');
		expect(text()).toContain(`loss ${((0.95 * 4 + 2) / 1.95).toPrecision(4)}`);
	});

	it('tells of everything else at once', () => {
		const { progress, text } = follow({ isTTY: false });
		progress.onEvent({ kind: 'note', text: 'opening data set mnist' });
		progress.onEvent({
			kind: 'plan',
			devices: 4,
			stages: [
				{ layers: ['a', 'b', 'c'], ms: 12.34 },
				{ layers: ['d'], ms: 0 },
			],
			text: '',
		});
		progress.onEvent({ kind: 'resumed', step: 40, path: 'runs/a/checkpoints/step-00000040' });
		progress.onEvent({ kind: 'skipped', name: 'x.png', reason: 'truncated' });
		progress.onEvent({ kind: 'eval', step: 50, loss: 0.25, quantiles: [{ quantile: 0.5, loss: 0.25 }], samples: 12, ms: 3 });
		progress.onEvent({ kind: 'sample', step: 50, path: 'runs/a/samples/50.png' });
		progress.onEvent({ kind: 'checkpoint', step: 50, path: 'runs/a/checkpoints/step-00000050' });
		expect(text().split('\n')).toEqual([
			'opening data set mnist',
			'4 devices, 2 pipeline stages, 2 copies of the pipeline',
			'  stage 0: a ... c (3 layers, 12.3 ms per micro-batch)',
			'  stage 1: d (1 layer)',
			'resumed at step 40 from runs/a/checkpoints/step-00000040',
			'left out x.png: truncated',
			'held-out loss at step 50: 0.2500 (12 examples)',
			'pictures of step 50: runs/a/samples/50.png',
			'saved step 50: runs/a/checkpoints/step-00000050',
			'',
		]);
	});
});

describe('training progress on a terminal', () => {
	it('rewrites one line, at most ten times a second, and always shows the last step', () => {
		const { progress, text, wait } = follow({ isTTY: true });
		for (let n = 1; n <= 20; n++) {
			progress.onEvent(step(n, 1, 20));
			wait(30);
		}
		const drawn = text().split('\r').slice(1);
		expect(drawn.map((line) => Number(line.slice(5, 7)))).toEqual([1, 5, 9, 13, 17, 20]);
		expect(text()).not.toContain('\n');
		progress.end();
		progress.end();
		expect(text().endsWith('\u001b[K\n')).toBe(true);
	});

	it('ends the line before other text', () => {
		const { progress, text } = follow({ isTTY: true });
		progress.onEvent(step(1, 1));
		progress.onEvent({ kind: 'note', text: 'drawing' });
		expect(text().endsWith('left\u001b[K\ndrawing\n')).toBe(true);
	});

	it.each([
		[30, 29],
		[0, 'step    1/1000  loss 1.000  lr 1.0e-3  640 images/s  2m 05s left'.length],
	])('never writes a line that would wrap in %d columns', (columns, length) => {
		const { progress, text } = follow({ isTTY: true, columns });
		progress.onEvent(step(1, 1));
		expect(text().replace('\r', '').replace('\u001b[K', '')).toHaveLength(length);
	});
});
