/** @file The simulator: walks the devices' programs with given times and predicts their timeline. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { byteSize, type TypeShape } from '../../core/tensor.ts';
import { formatAction } from '../../plan/schedules/text.ts';
import { executionOrder, formatStep, type Step } from '../../program/order.ts';
import type { Span, SpanKind, Timeline } from '../../program/timeline.ts';
import type { Action, ChannelId, DeviceId, GraphId, Instruction, Program } from '../../program/types.ts';
import { type VerifiedProgram, verifyProgram } from '../../program/verify.ts';

/** How long things take, ms: finite and not negative. */
export interface SimulationCosts {
	readonly runMs: (graph: GraphId, device: DeviceId) => number;
	/** A message from one device to another, latency included. */
	readonly transferMs: (bytes: number, from: DeviceId, to: DeviceId) => number;
	/** A sum of `bytes` per device over the devices of a group. */
	readonly allReduceMs: (bytes: number, devices: readonly DeviceId[]) => number;
	/** Joining to `bytes` on each device. Absent: half of `allReduceMs`, since a ring all-reduce is a reduce-scatter and an all-gather of equal traffic. */
	readonly allGatherMs?: (bytes: number, devices: readonly DeviceId[]) => number;
	/** One optimiser step on a bank of so many elements. */
	readonly updateMs: (elements: number) => number;
	/** Host to device; absent: nothing. */
	readonly feedMs?: (bytes: number) => number;
	/** Device to host; absent: nothing. */
	readonly fetchMs?: (bytes: number) => number;
	/** What a send keeps its device busy for, beside the message's way; absent: nothing. */
	readonly sendMs?: number;
	/** What a device takes from one instruction to the next, drops apart; absent: nothing. */
	readonly betweenMs?: number;
}

export interface SimulateOptions {
	/** Iterations between prologue and epilogue; 1 unless given. */
	readonly iterations?: number;
	/** Sections and iterations begin on all devices together, when the last one has done the one before, as an engine that hands out iterations runs them. */
	readonly together?: boolean;
}

interface Walk {
	readonly program: Program;
	readonly costs: SimulationCosts;
	/** When each device has done what it was given so far. */
	readonly now: Map<DeviceId, number>;
	readonly spans: ReadonlyMap<DeviceId, Span[]>;
	/** When the link from one device to another is free again. */
	readonly linkFree: Map<string, number>;
	/** Arrival and name of each message that is sent and not yet received. */
	readonly inFlight: Map<ChannelId, { readonly at: number; readonly message: string }[]>;
	readonly sent: Map<ChannelId, number>;
	readonly typesOf: (step: Step) => readonly TypeShape[];
}

/**
 * The timeline of prologue, `iterations` iterations and epilogue, from time 0. A run occupies its device; a send does not, but its message waits until
 * those that the device sent to the same peer before it have arrived; a receive waits for its message and a collective for its whole group. Devices do not
 * wait for each other between iterations. Throws a program error when the program does not verify (a verified one is not verified again), an input
 * error when a cost is not a time.
 */
export function simulate(
	program: Program | VerifiedProgram,
	costs: SimulationCosts,
	{ iterations = 1, together = false }: SimulateOptions = {},
): Timeline {
	const verified = 'trace' in program ? program : verifyProgram(program);
	const { devices } = verified.program;
	const types = new Map(verified.devices.map((device) => [device.device, device.types]));
	const walk: Walk = {
		program: verified.program,
		costs,
		now: new Map(devices.map(({ device }) => [device, 0])),
		spans: new Map(devices.map(({ device }) => [device, []])),
		linkFree: new Map(),
		inFlight: new Map(),
		sent: new Map(),
		typesOf: (step) => types.get(step.device)![step.section][step.index]!,
	};
	// Each message leaves and each collective begins at a time that only earlier steps of this order decide, so one pass in any valid order is exact.
	const all = executionOrder(verified.program, iterations);
	// What a device needs from others it needs from the same section and iteration, or from earlier ones: sorting by them keeps the order valid.
	const order = together ? all.sort((a, b) => (roundOf(a) === roundOf(b) ? 0 : roundOf(a) - roundOf(b))) : all;
	for (let i = 0; i < order.length; ) {
		const step = order[i]!;
		if (together && i > 0 && roundOf(order[i - 1]!) !== roundOf(step)) {
			const start = Math.max(...walk.now.values());
			for (const device of walk.now.keys()) walk.now.set(device, start);
		}
		const members = 'group' in step.instruction ? verified.program.groups[step.instruction.group]!.length : 0;
		const steps = order.slice(i, i + Math.max(1, members));
		for (const { device, instruction } of steps) if (instruction.op !== 'drop') spend(walk, device, costs.betweenMs);
		if (members > 0) collective(walk, steps);
		else single(walk, step);
		i += steps.length;
	}
	return { devices: devices.map(({ device }) => ({ device, spans: walk.spans.get(device)! })) };
}

/** Numbers prologue, iterations and epilogue in the order in which they run. */
function roundOf({ section, round }: Step): number {
	return section === 'prologue' ? -1 : section === 'iteration' ? round : Number.POSITIVE_INFINITY;
}

function single(walk: Walk, step: Step): void {
	const { instruction } = step;
	if (instruction.op === 'send') send(walk, step, instruction);
	else if (instruction.op === 'recv') recv(walk, step, instruction);
	else {
		const work = workOf(walk, step);
		if (work) occupy(walk, step, work);
	}
}

/** What an instruction keeps its own device busy with. */
interface Work {
	readonly kind: SpanKind;
	readonly name: string;
	readonly ms: number;
	readonly action?: Action;
}

function workOf({ program, costs, typesOf }: Walk, step: Step): Work | undefined {
	const { instruction, device } = step;
	switch (instruction.op) {
		case 'run': {
			const { graph, action, label } = instruction;
			return { kind: 'run', name: action ? formatAction(action) : label, ms: costs.runMs(graph, device), ...(action ? { action } : {}) };
		}
		case 'update': {
			const bank = program.devices.find((d) => d.device === device)!.banks.find(({ id }) => id === instruction.bank)!;
			return { kind: 'update', name: `update ${instruction.bank}`, ms: costs.updateMs(bank.trained ?? bank.size) };
		}
		case 'feed':
			return { kind: 'feed', name: `feed ${instruction.source}`, ms: costs.feedMs?.(bytesOf(typesOf(step))) ?? 0 };
		case 'fetch':
			return { kind: 'fetch', name: `fetch ${instruction.name}`, ms: costs.fetchMs?.(bytesOf(typesOf(step))) ?? 0 };
		default:
			return undefined;
	}
}

function send(walk: Walk, step: Step, { peer, channel, slot }: Extract<Instruction, { op: 'send' }>): void {
	const link = `${step.device}>${peer}`;
	const start = Math.max(walk.now.get(step.device)!, walk.linkFree.get(link) ?? 0);
	const end = start + checkTime(walk, step, walk.costs.transferMs(bytesOf(walk.typesOf(step)), step.device, peer));
	walk.linkFree.set(link, end);
	spend(walk, step.device, walk.costs.sendMs);
	const number = walk.sent.get(channel) ?? 0;
	walk.sent.set(channel, number + 1);
	const message = `${channel} ${number}`;
	const queue = walk.inFlight.get(channel) ?? [];
	walk.inFlight.set(channel, queue);
	queue.push({ at: end, message });
	add(walk, step, { name: `send ${slot}`, kind: 'send', start, end, message });
}

function recv(walk: Walk, step: Step, { channel, slot }: Extract<Instruction, { op: 'recv' }>): void {
	const { at, message } = walk.inFlight.get(channel)!.shift()!;
	const start = walk.now.get(step.device)!;
	const end = Math.max(start, at);
	walk.now.set(step.device, end);
	add(walk, step, { name: `recv ${slot}`, kind: 'recv', start, end, message });
}

/** All parts of a collective begin when the last device of the group is there, and end together. */
function collective(walk: Walk, steps: readonly Step[]): void {
	const { costs, now, program } = walk;
	const { instruction } = steps[0]!;
	if (!('group' in instruction)) return;
	const devices = program.groups[instruction.group]!;
	const start = Math.max(...steps.map((step) => now.get(step.device)!));
	const bytes = bytesOf(walk.typesOf(steps[0]!));
	const gather = costs.allGatherMs ?? ((n: number, members: readonly DeviceId[]) => costs.allReduceMs(n, members) / 2);
	const ms = instruction.op === 'allReduce' ? costs.allReduceMs(bytes, devices) : gather(bytes, devices);
	for (const step of steps) {
		const arrived = now.get(step.device)!;
		if (arrived < start) add(walk, step, { name: `wait for ${instruction.group}`, kind: 'idle', start: arrived, end: start });
		now.set(step.device, start);
		occupy(walk, step, { kind: instruction.op, name: `${instruction.op} ${instruction.group}`, ms });
	}
}

/** A span from the device's current time; runs are noted even when they take none. */
function occupy(walk: Walk, step: Step, { kind, name, ms, action }: Work): void {
	const start = walk.now.get(step.device)!;
	const end = start + checkTime(walk, step, ms);
	walk.now.set(step.device, end);
	if (ms > 0 || kind === 'run') add(walk, step, { name, kind, start, end, ...(action ? { action } : {}) });
}

/** Time of a device that is no span's. */
function spend({ now }: Walk, device: DeviceId, ms = 0): void {
	now.set(device, now.get(device)! + ms);
}

function add(walk: Walk, { device, section, round }: Step, span: Span): void {
	walk.spans.get(device)!.push(section === 'iteration' ? { ...span, iteration: round } : span);
}

function bytesOf(types: readonly TypeShape[]): number {
	return types.reduce((sum, type) => sum + byteSize(type), 0);
}

function checkTime({ program }: Walk, step: Step, ms: number): number {
	if (ms >= 0 && ms < Number.POSITIVE_INFINITY) return ms;
	throw new DiffusionPipeError('input', 'the cost is not a time', {
		place: `simulation of ${formatStep(program, step)}`,
		expected: 'milliseconds, finite and not negative',
		found: String(ms),
	});
}
