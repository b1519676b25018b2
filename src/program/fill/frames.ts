/** @file From filled layers to frames: what follows each other on a device without a break is one graph. */
import type { FillItem } from '../../plan/fill/types.ts';
import type { Frame } from './types.ts';

/** The frames of all devices in order of time (then device). A frame ends where the device does something else, or where samples or part change. */
export function framesOf(items: readonly FillItem[]): readonly Frame[] {
	const frames: Frame[] = [];
	const open = new Map<number, Frame>();
	for (const { device, component, layer, samples, startMs, endMs } of [...items].sort((a, b) => a.startMs - b.startMs)) {
		const last = open.get(device);
		const follows =
			last !== undefined &&
			last.part === component &&
			last.to === layer &&
			last.samples[0] === samples[0] &&
			last.samples[1] === samples[1] &&
			Math.abs(last.endMs - startMs) <= 1e-6 * Math.max(1, endMs);
		const frame: Frame = follows
			? { ...last, to: layer + 1, endMs }
			: { device, part: component, from: layer, to: layer + 1, samples, startMs, endMs };
		if (follows) frames[frames.indexOf(last)] = frame;
		else frames.push(frame);
		open.set(device, frame);
	}
	return frames.sort((a, b) => a.startMs - b.startMs || a.device - b.device);
}
