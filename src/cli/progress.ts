/** @file What a person sees of a training run: at once what is done, then one line of numbers, rewritten on a terminal. */
import { formatBytes } from '../core/units.ts';
import type { TrainEvent } from '../train/events.ts';
import type { Output } from './command.ts';
import { formatNumber, formatSeconds, plural } from './format.ts';
import type { Style } from './style.ts';

/** Follows a run. */
export interface Progress {
	onEvent(event: TrainEvent): void;
	/** Ends the line being rewritten, so that other text can follow. */
	end(): void;
}

export interface ProgressOptions {
	readonly output: Output;
	/** True: one line, rewritten. False: a new line every `intervalMs`. */
	readonly isTTY: boolean;
	readonly style: Style;
	/** Milliseconds of a steady clock. */
	readonly now: () => number;
	/** Shortest time between lines that are not rewritten; 10 s by default. */
	readonly intervalMs?: number;
}

/** Redrawing faster than the eye follows only costs time. */
const redrawMs = 100;
/** Weight of the past in the loss shown; it looks back over about 20 steps. */
const smoothing = 0.95;

/** A progress line over `output`. */
export function createProgress({ output, isTTY, style, now, intervalMs = 10_000 }: ProgressOptions): Progress {
	let open = false;
	let lastShown = Number.NEGATIVE_INFINITY;
	let sum = 0;
	let weight = 0;
	const end = () => {
		if (open) output.write('\n');
		open = false;
	};
	const line = (text: string) => {
		end();
		output.write(`${text}\n`);
	};
	const show = (text: string) => {
		if (!isTTY) return line(text);
		// A line that wraps cannot be rewritten. Some terminals say that they are 0 wide.
		const fitting = text.slice(0, Math.max(20, (output.columns || 80) - 1));
		output.write(`\r${fitting}\u001b[K`);
		open = true;
	};
	return {
		end,
		onEvent(event) {
			switch (event.kind) {
				case 'step': {
					// The sum of weights corrects for the start, so that the first value is the first loss.
					sum = smoothing * sum + (1 - smoothing) * event.loss;
					weight = smoothing * weight + (1 - smoothing);
					const time = now();
					if (event.step < event.maxSteps && time - lastShown < (isTTY ? redrawMs : intervalMs)) return;
					lastShown = time;
					show(stepText(event, sum / weight));
					return;
				}
				case 'note':
					return line(style.dim(event.text));
				case 'plan':
					for (const text of planLines(event)) line(text);
					return;
				case 'resumed':
					return line(`resumed at step ${event.step} from ${event.path}`);
				case 'eval':
					return line(`held-out loss at step ${event.step}: ${formatNumber(event.loss)} (${plural(event.samples, 'example')})`);
				case 'sample':
					return line(`pictures of step ${event.step}: ${event.path}`);
				case 'checkpoint':
					return line(style.dim(`saved step ${event.step}: ${event.path}`));
				case 'skipped':
					return line(style.yellow(`left out ${event.name}: ${event.reason}`));
				case 'done':
					return end();
			}
		},
	};
}

function stepText(event: Extract<TrainEvent, { kind: 'step' }>, loss: number): string {
	const { step, maxSteps, lr, imagesPerSecond, secondsLeft } = event;
	const parts = [
		`step ${String(step).padStart(String(maxSteps).length)}/${maxSteps}`,
		`loss ${formatNumber(loss)}`,
		`lr ${lr.toExponential(1)}`,
		`${imagesPerSecond < 10 ? imagesPerSecond.toPrecision(2) : Math.round(imagesPerSecond)} images/s`,
		...(step < maxSteps ? [`${formatSeconds(secondsLeft)} left`] : []),
	];
	return parts.join('  ');
}

/** What devices hold at most. */
export function peakLine(devices: readonly { readonly device: number; readonly peakBytes: number; readonly fixedBytes: number }[]): string {
	const each = devices.map(({ device, peakBytes, fixedBytes }) => {
		const fixed = `${formatBytes(fixedBytes)} of it weights and optimiser`;
		return `device ${device} ${formatBytes(peakBytes)} (${fixed})`;
	});
	return `peak memory predicted: ${each.join(', ')}`;
}

/** Bubbles as shares of device time, `20.1 % before and 3.2 % after filling`. */
export function bubbleText({ unfilled, filled }: { readonly unfilled: number; readonly filled: number }): string {
	const share = (ratio: number) => `${(100 * ratio).toFixed(1)} %`;
	return filled < unfilled ? `${share(unfilled)} before and ${share(filled)} after filling` : share(unfilled);
}

/** How a plan reads: one line per stage. */
export function planLines({ devices, stages, size }: Pick<Extract<TrainEvent, { kind: 'plan' }>, 'devices' | 'stages' | 'size'>): string[] {
	const replicas = devices / stages.length;
	const copies = replicas > 1 ? `, ${replicas} copies of the pipeline` : '';
	return [
		`${size ? `images of ${size}: ` : ''}${plural(devices, 'device')}, ${plural(stages.length, 'pipeline stage')}${copies}`,
		...stages.map(({ layers, ms }, i) => {
			const names = layers.length > 2 ? `${layers[0]} ... ${layers.at(-1)}` : layers.join(', ');
			const time = ms > 0 ? `, ${ms.toFixed(1)} ms per micro-batch` : '';
			return `  stage ${i}: ${names} (${plural(layers.length, 'layer')}${time})`;
		}),
	];
}
