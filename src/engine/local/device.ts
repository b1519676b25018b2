/** @file One device: executes its program's instructions on native tensors. Blocks its thread; nothing else runs there. */
import { DiffusionPipeError, unreachable } from '../../core/errors.ts';
import { byteSize, bytesPerElement, sizeOf, type TypeShape } from '../../core/tensor.ts';
import { allInstructions, kindsOf } from '../../program/swept.ts';
import type { BankId, Instruction, SlotId } from '../../program/types.ts';
import { type Adder, allGather, allReduce, createAdder } from './collective.ts';
import {
	addressOf,
	allocateTensor,
	copyOut,
	createSession,
	dataOf,
	type Environment,
	releaseValue,
	type Session,
	tensorOver,
	typeOf,
	valuesAlive,
	viewNative,
} from './native.ts';
import type { Pointer } from './ort.ts';
import type { DeviceSetup, Fetched, GraphModel, SharedTensor, ToDevice } from './protocol.ts';
import { checkRunning, pop, push } from './shared.ts';
import { createUpdater, type Updater } from './update.ts';

/** Instruction compiled to a function over slot indices. */
interface Step {
	readonly text: string;
	/** Slots it may set or empty. */
	readonly slots: readonly number[];
	run(io: IterationIo): void;
}

interface IterationIo {
	readonly feeds: Readonly<Record<string, SharedTensor>>;
	readonly fetched: Fetched[];
}

export interface Device {
	/**
	 * Runs one section. When traced, spans are [start, end] and `held` the bytes of all slots after each instruction; `values` is `valuesAlive` of this
	 * thread afterwards. Throws an engine error naming device and instruction, and Stopped when another device failed.
	 */
	run(message: Extract<ToDevice, { kind: 'run' }>): { fetched: Fetched[]; spans: Float64Array; held: Float64Array; values: number };
	release(): void;
}

/** Compiles the device's graphs and instructions. */
export function createDevice(setup: DeviceSetup): Device {
	const { environment, device, control } = setup;
	const place = (text: string) => `device ${device.device}, ${text}`;
	const sessions = new Map<string, Session>();
	const open = (id: string, model: GraphModel) => {
		try {
			return createSession(environment, id, model.model, model, { threads: setup.threads });
		} catch (cause) {
			throw explained(cause, place(`graph ${id}`));
		}
	};
	const all = allInstructions(device);
	const needed = new Set(all.flatMap((i) => (i.op === 'run' ? [i.graph as string] : [])));
	for (const id of needed) sessions.set(id, open(id, setup.graphs.get(id) ?? missing(place(`graph ${id}`))));

	const indices = new Map<SlotId, number>();
	const index = (slot: SlotId) => {
		let i = indices.get(slot);
		if (i === undefined) {
			i = indices.size;
			indices.set(slot, i);
		}
		return i;
	};
	for (const r of device.residents) index(r.slot);
	for (const instruction of all) for (const slot of slotsOf(instruction)) index(slot);
	const values = new BigUint64Array(indices.size);
	const types: (TypeShape | undefined)[] = new Array(indices.size);
	const resident = new Uint8Array(indices.size);
	for (const r of device.residents) {
		const memory = setup.banks.get(r.bank ?? '') ?? missing(place(`bank ${r.bank}`));
		const array = r.role === 'gradient' ? memory.gradient! : memory.parameter;
		const i = index(r.slot);
		values[i] = tensorOver(environment, addressOf(array) + BigInt(r.offset * 4), r);
		types[i] = { dtype: r.dtype, shape: r.shape };
		resident[i] = 1;
	}
	let adder: Adder | undefined;
	const updaters = new Map<BankId, Updater>();
	const updater = (id: BankId): Updater => {
		const known = updaters.get(id);
		if (known) return known;
		const bank = device.banks.find((b) => b.id === id) ?? missing(place(`bank ${id}`));
		const update = setup.update ?? missing(place('update graph'));
		const made = createUpdater(environment, update, (model) => open('update', model), bank, setup.banks.get(id)!);
		updaters.set(id, made);
		return made;
	};

	const compile = (instruction: Instruction): Step => {
		const text = instructionText(instruction);
		return { text, slots: slotsOf(instruction).map(index), run: compileBody(instruction) };
	};
	const typeAt = (i: number): TypeShape => types[i]!;
	const set = (i: number, value: Pointer, type: TypeShape) => {
		values[i] = value;
		types[i] = type;
	};
	/** Memory of fed slots, which their native values only point to. */
	const fed = new Map<number, ArrayBufferView>();
	const compileBody = (instruction: Instruction): Step['run'] => {
		switch (instruction.op) {
			case 'feed': {
				const i = index(instruction.slot);
				const { source, from, to } = instruction;
				// The engine checks that a source always has the type that the program declares.
				let known: { readonly type: TypeShape; readonly start: bigint } | undefined;
				return ({ feeds }) => {
					const tensor = feeds[source] ?? missing(`source ${source}`);
					known ??= rowsOf(tensor, from, to);
					const { type, start } = known;
					const memory = new Uint8Array(tensor.buffer);
					fed.set(i, memory);
					set(i, tensorOver(environment, addressOf(memory) + start, type), type);
				};
			}
			case 'run': {
				const session = sessions.get(instruction.graph)!;
				const { outputTypes } = setup.graphs.get(instruction.graph)!;
				const ins = instruction.inputs.map(index);
				const outs = instruction.outputs.map(index);
				const inputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, ins.length)));
				const outputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, outs.length)));
				return () => {
					for (let k = 0; k < ins.length; k++) inputs[k] = values[ins[k]!]!;
					for (let k = 0; k < outs.length; k++) outputs[k] = resident[outs[k]!] ? values[outs[k]!]! : 0n;
					session.run(inputs, outputs);
					for (let k = 0; k < outs.length; k++) if (!resident[outs[k]!]) set(outs[k]!, outputs[k]!, outputTypes[k]!);
				};
			}
			case 'send': {
				const i = index(instruction.slot);
				const channel = setup.channels.get(instruction.channel) ?? missing(place(`channel ${instruction.channel}`));
				return () => {
					if (fed.has(i)) own(i);
					push(control, channel, values[i]!);
					values[i] = 0n;
				};
			}
			case 'recv': {
				const i = index(instruction.slot);
				const channel = setup.channels.get(instruction.channel) ?? missing(place(`channel ${instruction.channel}`));
				// A program is static: what this instruction receives has the same type every time.
				let type: TypeShape | undefined;
				return () => {
					const value = pop(control, channel);
					type ??= typeOf(value);
					set(i, value, type);
				};
			}
			case 'allReduce': {
				const members = setup.groups[instruction.group]!;
				const member = members.indexOf(device.device);
				const meeting = setup.meetings.get(instruction.group)!;
				const slots = instruction.slots.map(index);
				adder ??= createAdder(environment);
				const sum = adder;
				return () => {
					for (const i of slots) {
						const { dtype, shape } = typeAt(i);
						if (dtype !== 'float32') {
							throw new DiffusionPipeError('engine', 'only float32 slots are summed', {
								place: 'allReduce',
								expected: 'float32',
								found: dtype,
							});
						}
						// What the host fed is the host's: it is not added to in place.
						if (fed.has(i)) own(i);
						allReduce(control, meeting, member, values[i]!, sizeOf(shape), sum);
					}
				};
			}
			case 'allGather': {
				const members = setup.groups[instruction.group]!;
				const member = members.indexOf(device.device);
				const meeting = setup.meetings.get(instruction.group)!;
				const [from, to] = [index(instruction.slot), index(instruction.output)];
				const { axis } = instruction;
				return () => {
					const { value, type } = allGather(control, meeting, member, values[from]!, typeAt(from), axis);
					set(to, value, type);
				};
			}
			case 'update': {
				const [hyper, norm] = [index(instruction.hyper), index(instruction.normSquared)];
				const apply = updater(instruction.bank);
				return () => apply.run(values[hyper]!, values[norm]!);
			}
			case 'fetch': {
				const i = index(instruction.slot);
				const { name, from } = instruction;
				return ({ fetched }) => {
					const type = typeAt(i);
					const data = copyOut(values[i]!, type);
					fetched.push({ name, from, ...type, data: data.buffer as ArrayBuffer });
				};
			}
			case 'drop': {
				const slots = instruction.slots.map(index);
				return () => {
					for (const i of slots) {
						releaseValue(values[i]!);
						values[i] = 0n;
						fed.delete(i);
					}
				};
			}
			default:
				return unreachable(instruction, 'device');
		}
	};
	/** Copies a fed slot to native memory, which may leave this thread. */
	const own = (i: number) => {
		const type = typeAt(i);
		const copy = allocateTensor(type);
		const length = sizeOf(type.shape);
		if (length > 0) {
			const to = viewNative(dataOf(copy), type.dtype, length) as Float32Array;
			to.set(viewNative(dataOf(values[i]!), type.dtype, length) as Float32Array);
		}
		releaseValue(values[i]!);
		fed.delete(i);
		values[i] = copy;
	};
	/** Bytes of each slot as last looked at. */
	const seen = new Float64Array(indices.size);
	const sizes = new WeakMap<TypeShape, number>();
	const bytesOf = (type: TypeShape): number => {
		let bytes = sizes.get(type);
		if (bytes === undefined) {
			bytes = byteSize(type);
			sizes.set(type, bytes);
		}
		return bytes;
	};
	/** How many bytes more `slots` hold than when they were last looked at. Residents are the banks'. */
	const change = (slots: Iterable<number>): number => {
		let more = 0;
		for (const i of slots) {
			const bytes = resident[i] || values[i] === 0n ? 0 : bytesOf(typeAt(i));
			more += bytes - seen[i]!;
			seen[i] = bytes;
		}
		return more;
	};
	const [plain, withSweep] = kindsOf(device).map(({ prologue, iteration, epilogue }) => ({
		prologue: prologue.map(compile),
		iteration: iteration.map(compile),
		epilogue: epilogue.map(compile),
	}));
	return {
		run({ section, swept, feeds, trace }) {
			const steps = (swept ? withSweep! : plain!)[section];
			const io: IterationIo = { feeds, fetched: [] };
			const spans = new Float64Array(trace ? steps.length * 2 : 0);
			const held = new Float64Array(trace ? steps.length : 0);
			if (trace) change(values.keys());
			let bytes = seen.reduce((a, b) => a + b, 0);
			for (let k = 0; k < steps.length; k++) {
				const step = steps[k]!;
				if (trace) spans[2 * k] = performance.timeOrigin + performance.now();
				try {
					checkRunning(control);
					step.run(io);
				} catch (cause) {
					if (cause instanceof Error && cause.name === 'Stopped') throw cause;
					throw explained(cause, place(`${section} ${k} (${step.text})`));
				}
				if (!trace) continue;
				spans[2 * k + 1] = performance.timeOrigin + performance.now();
				bytes += change(step.slots);
				held[k] = bytes;
			}
			return { fetched: io.fetched, spans, held, values: valuesAlive() };
		},
		release() {
			for (let i = 0; i < values.length; i++) if (values[i] !== 0n) releaseValue(values[i]!);
			values.fill(0n);
			fed.clear();
			for (const s of sessions.values()) s.release();
			for (const u of updaters.values()) u.release();
			adder?.release();
		},
	};
}

const outOfMemory = /Failed to allocate memory for requested buffer of size (\d+)/;
/** File, line and C++ function at the start of a status. */
const sourceLocation = /^\S+\.(?:cc|h):\d+ (?:.*?\) )?/;
const runFailure = /^Non-zero status code returned while running (\S+) node\. Name:'([^']*)' Status Message: (.*)$/s;

/** What went wrong, at `place`. ONNX Runtime names the node that failed, and our node names start with the layer path. */
export function explained(cause: unknown, place: string): DiffusionPipeError {
	const known = cause instanceof DiffusionPipeError ? cause : undefined;
	const said = known?.what ?? (cause instanceof Error ? cause.message : String(cause));
	const [, op, node, status] = runFailure.exec(said) ?? [];
	if (op === undefined || node === undefined || status === undefined) {
		// A graph is part of `place` already.
		const where = known && !known.parts.place.startsWith('graph ') ? `${known.parts.place}: ` : '';
		return new DiffusionPipeError('engine', `${where}${said}`, { ...known?.parts, place, cause });
	}
	const slash = node.lastIndexOf('/');
	const layer = slash > 0 ? `layer ${node.slice(0, slash)}, ` : '';
	const bytes = outOfMemory.exec(status)?.[1];
	if (bytes !== undefined) {
		return new DiffusionPipeError('engine', `${layer}${op}: out of memory`, {
			place,
			found: `it asked for ${bytes} bytes`,
			hint: 'smaller micro-batches, more stages, or recompute',
			cause,
		});
	}
	return new DiffusionPipeError('engine', `${layer}${op}: ${status.replace(sourceLocation, '').trim()}`, { place, cause });
}

/** The type of rows [from, to) of a source (all of it when `to` is 0), and at which byte they start. */
function rowsOf({ dtype, shape }: TypeShape, from: number, to: number): { readonly type: TypeShape; readonly start: bigint } {
	if (to === 0) return { type: { dtype, shape }, start: 0n };
	const rest = shape.slice(1);
	return { type: { dtype, shape: [to - from, ...rest] }, start: BigInt(from * sizeOf(rest) * bytesPerElement(dtype)) };
}

function missing(what: string): never {
	throw new DiffusionPipeError('engine', 'is not there', { place: what });
}

/** Slots an instruction names. */
function slotsOf(i: Instruction): readonly SlotId[] {
	switch (i.op) {
		case 'feed':
		case 'send':
		case 'recv':
		case 'fetch':
			return [i.slot];
		case 'run':
			return [...i.inputs, ...i.outputs];
		case 'allReduce':
		case 'drop':
			return i.slots;
		case 'allGather':
			return [i.slot, i.output];
		case 'update':
			return [i.hyper, i.normSquared];
		default:
			return unreachable(i, 'slotsOf');
	}
}

/** Short text of an instruction for errors and timelines: `run 0F3 (stage0.forward)`. */
export function instructionText(i: Instruction): string {
	switch (i.op) {
		case 'run':
			return `run ${i.label} (${i.graph})`;
		case 'feed':
			return `feed ${i.slot}`;
		case 'send':
			return `send ${i.slot} to device ${i.peer}`;
		case 'recv':
			return `recv ${i.slot} from device ${i.peer}`;
		case 'allReduce':
			return `allReduce ${i.slots.join(', ')}`;
		case 'allGather':
			return `allGather ${i.slot}`;
		case 'update':
			return `update ${i.bank}`;
		case 'fetch':
			return `fetch ${i.name}`;
		case 'drop':
			return `drop ${i.slots.length} slots`;
		default:
			return unreachable(i, 'instructionText');
	}
}

export type { Environment };
