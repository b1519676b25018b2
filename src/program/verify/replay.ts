/** @file The replay of a program over types instead of tensors: each instruction in an order that the devices can take. */
import { describe, type TypeShape } from '../../core/tensor.ts';
import { formatStep, type Step } from '../order.ts';
import type { ChannelId, DeviceId, Instruction, Program, SlotId } from '../types.ts';
import { playCollective } from './collective-types.ts';
import { faultAt } from './fault.ts';
import { DeviceSlots, describeHeld, type Held, sameButFor, sameType, withDimension } from './slots.ts';

type Of<Op extends Instruction['op']> = Extract<Instruction, { op: Op }>;

/** What a replay carries from one instruction to the next. */
export interface Replay {
	readonly program: Program;
	readonly slots: ReadonlyMap<DeviceId, DeviceSlots>;
	/** Sent and not yet received, oldest first. */
	readonly channels: Map<ChannelId, Held[]>;
	/** First fetch of each name. */
	readonly fetched: Map<string, { readonly held: Held; readonly step: Step }>;
	/** Whether an F, B, I or W may use only what those of its own micro-batch computed. */
	readonly microBatches: boolean;
}

/** The state before the first instruction. */
export function startReplay(program: Program, microBatches: boolean): Replay {
	const slots = new Map(program.devices.map((device) => [device.device, new DeviceSlots(program, device)]));
	return { program, slots, channels: new Map(), fetched: new Map(), microBatches };
}

/**
 * Executes one instruction, or all parts of one collective together. Returns for each step the types that it produces or moves. Throws a program
 * error at the step that breaks a rule.
 */
export function play(replay: Replay, steps: readonly Step[]): readonly (readonly TypeShape[])[] {
	const { instruction } = steps[0]!;
	if ('group' in instruction) return playCollective(replay.program, replay.slots, steps);
	return steps.map((step) => playOne(replay, step, replay.slots.get(step.device)!));
}

function playOne(replay: Replay, step: Step, slots: DeviceSlots): readonly TypeShape[] {
	const { instruction } = step;
	switch (instruction.op) {
		case 'feed': {
			const { dtype, shape, perSample } = replay.program.sources[instruction.source]!;
			const type = { dtype, shape: perSample ? withDimension(shape, 0, instruction.to - instruction.from) : shape };
			slots.set(instruction.slot, { type }, step);
			return [type];
		}
		case 'run':
			return run(replay, step, slots, instruction);
		case 'send': {
			const held = slots.take(instruction.slot, step);
			const queue = replay.channels.get(instruction.channel) ?? [];
			replay.channels.set(instruction.channel, queue);
			queue.push({ ...held, sentBy: step });
			return [held.type];
		}
		case 'recv': {
			const held = replay.channels.get(instruction.channel)!.shift()!;
			slots.set(instruction.slot, held, step);
			return [held.type];
		}
		case 'update':
			slots.read(instruction.hyper, step);
			slots.read(instruction.normSquared, step);
			return [];
		case 'fetch':
			return [fetch(replay, step, slots, instruction)];
		case 'drop':
			return instruction.slots.map((slot) => slots.take(slot, step).type);
		default:
			return [];
	}
}

function run(
	{ program, microBatches }: Replay,
	step: Step,
	slots: DeviceSlots,
	{ graph, inputs, outputs, action }: Of<'run'>,
): readonly TypeShape[] {
	const signature = program.graphs[graph]!;
	inputs.forEach((slot, i) => {
		const held = slots.read(slot, step);
		if (!sameType(held.type, signature.inputs[i]!)) {
			throw faultAt(program, step, `input ${i} of graph ${graph} is of another type`, {
				expected: describe(signature.inputs[i]!),
				found: describeHeld(program, slot, held),
			});
		}
		if (microBatches && action && held.micro !== undefined && held.micro !== action.micro) {
			throw faultAt(program, step, 'uses a value of another micro-batch', {
				expected: `micro-batch ${action.micro}`,
				found: `micro-batch ${held.micro}: ${describeHeld(program, slot, held)}`,
			});
		}
	});
	const written = new Set<SlotId>();
	outputs.forEach((slot, i) => {
		const type = signature.outputs[i]!;
		if (written.has(slot)) throw faultAt(program, step, `writes slot ${slot} twice`);
		written.add(slot);
		const resident = slots.residents.get(slot);
		if (!resident) slots.set(slot, { type, ...(action ? { micro: action.micro } : {}) }, step);
		else if (!sameType(resident.type, type)) {
			throw faultAt(program, step, `output ${i} of graph ${graph} is of another type`, {
				expected: describeHeld(program, slot, resident),
				found: describe(type),
			});
		}
	});
	return signature.outputs;
}

function fetch({ program, fetched }: Replay, step: Step, slots: DeviceSlots, { slot, name }: Of<'fetch'>): TypeShape {
	const held = slots.read(slot, step);
	const earlier = fetched.get(name);
	if (earlier && !sameButFor(0, earlier.held.type, held.type)) {
		throw faultAt(program, step, `fetches ${name} as another type than before`, {
			expected: `${describe(earlier.held.type)} but for the first dimension, as in ${formatStep(program, earlier.step)}`,
			found: describeHeld(program, slot, held),
		});
	}
	if (!earlier) fetched.set(name, { held, step });
	return held.type;
}
