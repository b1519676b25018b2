/**
 * @file The verifier: proves before a run that the devices' programs fit together. It knows nothing of how they were made.
 *
 * Names, counts and ranges are checked first, then channels and collectives, then the order of execution (deadlock), then every slot in a replay of
 * prologue, two iterations (so that what one iteration leaves to the next shows) and epilogue.
 */
import type { TypeShape } from '../core/tensor.ts';
import { executionOrder, type Position, type Section, type Step } from './order.ts';
import { mixed, plainProgram, sweptProgram } from './swept.ts';
import type { DeviceId, Program } from './types.ts';
import { checkChannels } from './verify/channels.ts';
import { checkCollectives } from './verify/collectives.ts';
import { checkDeclarations } from './verify/declarations.ts';
import { checkInstructions } from './verify/instructions.ts';
import { afterStep, beforeStep, checkEmpty, checkMemory, startRecord } from './verify/record.ts';
import { play, startReplay } from './verify/replay.ts';

export type { Position, Section, Step } from './order.ts';

/**
 * Rules that a program may break on purpose. `leak`: no slot is set at the end of the program. `microBatch`: actions use only what
 * actions of their own micro-batch computed. `names`: where both ends of a channel, or the devices of a group, use the same slot names, they use them in
 * the same order.
 */
export type OptionalRule = 'leak' | 'microBatch' | 'names';

export interface VerifyOptions {
	/** Memory of each device. Absent: no limit. */
	readonly memoryBytes?: number;
	readonly ignore?: readonly OptionalRule[];
}

/** What is known of a device of a verified program. */
export interface VerifiedDevice {
	readonly device: DeviceId;
	/** Banks and residents, alive all the time. */
	readonly fixedBytes: number;
	/** The most that fixed bytes, slots and the workspace of the running graph come to. Messages in flight are counted at neither end. */
	readonly peakBytes: number;
	/** Where the peak is first reached; absent for a device without instructions. */
	readonly peakAt?: Position;
	/** The types that each instruction produces or moves: of what it feeds, outputs, sends, receives, reduces, gathers (joined), fetches or drops. */
	readonly types: Readonly<Record<Section, readonly (readonly TypeShape[])[]>>;
}

export interface VerifiedProgram {
	readonly program: Program;
	/** In the order of the program's devices. */
	readonly devices: readonly VerifiedDevice[];
	/** An order in which prologue, two iterations and epilogue can run, the parts of a collective next to each other. */
	readonly trace: readonly Position[];
}

/**
 * Returns what is proven, or throws a program error that names device, section, index and text of the instruction that breaks a rule. A prologue may
 * leave slots and messages to the first iteration; each iteration must then leave the same to the next, and the epilogue nothing. Where there are
 * iterations with a sweep ahead, both kinds are proven to follow each other; types, trace and the place of the peak are those of iterations without.
 */
export function verifyProgram(program: Program, options: VerifyOptions = {}): VerifiedProgram {
	if (!sweptProgram(program)) return verifyKind(program, options);
	const plain = verifyKind(plainProgram(program), options);
	const begun = program.devices.some(({ prologue, swept }) => prologue.length + swept!.prologue.length > 0);
	// What an iteration leaves to the next is what its prologue left to it: that both kinds can follow either prologue proves every order of both.
	const others = [mixed(program, 'swept', 'swept'), ...(begun ? [mixed(program, 'plain', 'swept'), mixed(program, 'swept', 'plain')] : [])];
	const swept = others.map((each) => verifyKind(each, options));
	const devices = plain.devices.map(
		(device, k): VerifiedDevice => ({
			...device,
			peakBytes: Math.max(device.peakBytes, ...swept.map((each) => each.devices[k]!.peakBytes)),
		}),
	);
	return { ...plain, program, devices };
}

/** Verifies a program with iterations of one kind. */
function verifyKind(program: Program, options: VerifyOptions): VerifiedProgram {
	const { memoryBytes = Number.POSITIVE_INFINITY, ignore = [] } = options;
	const names = !ignore.includes('names');
	checkDeclarations(program);
	checkInstructions(program);
	checkChannels(program, names);
	checkCollectives(program, names);
	const order = executionOrder(program, 2);
	const replay = startReplay(program, !ignore.includes('microBatch'));
	const records = new Map(program.devices.map(({ device }) => [device, startRecord(replay.slots.get(device)!)]));
	for (let i = 0; i < order.length; ) {
		const { instruction } = order[i]!;
		const steps = order.slice(i, i + ('group' in instruction ? program.groups[instruction.group]!.length : 1));
		const before = steps.map((step) => {
			const record = records.get(step.device)!;
			beforeStep(program, record, step);
			return record.slots.liveBytes;
		});
		const types = play(replay, steps);
		for (const [k, step] of steps.entries()) afterStep(program, records.get(step.device)!, step, types[k]!, before[k]!);
		i += steps.length;
	}
	const devices = program.devices.map((device): VerifiedDevice => {
		const record = records.get(device.device)!;
		if (!ignore.includes('leak')) checkEmpty(program, record);
		checkMemory(program, device, record, memoryBytes);
		const { slots, peakBytes, peak, types } = record;
		return { device: device.device, fixedBytes: slots.fixedBytes, peakBytes, types, ...(peak ? { peakAt: positionOf(peak.step) } : {}) };
	});
	return { program, devices, trace: order.map(positionOf) };
}

function positionOf({ device, section, round, index }: Step): Position {
	return { device, section, round, index };
}
