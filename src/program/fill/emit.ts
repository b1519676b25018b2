/** @file The instructions of frozen work: each frame's feeds, messages, joins, run and drops, device by device in order of time. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { DType, Shape } from '../../core/tensor.ts';
import { extract } from '../../graph/extract.ts';
import { simplify } from '../../graph/passes/index.ts';
import type { Graph } from '../../graph/types.ts';
import { stageGraph } from '../../nn/chain.ts';
import type { Parameter } from '../../nn/context.ts';
import { channelId, deviceId, type GraphId, graphId, type Instruction, type SlotId, slotId } from '../types.ts';
import { covering, type Piece, rowsGraph } from './rows.ts';
import { type Frame, type FrozenPart, type OutputOf, sourceOf } from './types.ts';

/** Samples [from, to) of a frozen output that a device needs in a slot of that name when all frozen work is done. */
export interface Delivery {
	readonly device: number;
	readonly slot: SlotId;
	readonly value: OutputOf;
	readonly from: number;
	readonly to: number;
}

/** Instructions that belong to a moment of the plan. */
export interface TimedBlock {
	readonly startMs: number;
	readonly instructions: readonly Instruction[];
}

/** Parameters of the layers of a part that run on a device. */
export type PartParameters = ReadonlyMap<string, ReadonlyMap<string, Parameter>>;

export interface FrozenCode {
	/** Per device, in order of time; what delivers the results has an infinite start. */
	readonly blocks: ReadonlyMap<number, readonly TimedBlock[]>;
	readonly graphs: ReadonlyMap<GraphId, Graph>;
	readonly parameters: ReadonlyMap<number, PartParameters>;
}

/** A value of a part: the id of its definition. */
interface ValueKey {
	readonly part: FrozenPart;
	readonly id: string;
}

interface Need extends ValueKey {
	readonly device: number;
	readonly from: number;
	readonly to: number;
}

/** Slot of a parameter of a frozen part. */
export function frozenParameterSlot(part: string, name: string): SlotId {
	return slotId(`frozen:${part}/${name}`);
}

/**
 * Lowers frames (in order of time) and deliveries. A frame's missing samples are sent by the devices that made them as soon as they are made, over channels of
 * their own (`frozen:a>b`), and received in that order, early where a later message is needed first; since every send comes before its receive in the order of
 * time, nothing deadlocks. Throws a program error naming the frame when a value is needed that no earlier frame makes.
 */
export function emitFrozen(parts: readonly FrozenPart[], frames: readonly Frame[], deliveries: readonly Delivery[]): FrozenCode {
	const emitter = createEmitter(parts, frames, deliveries);
	for (const frame of frames) emitter.frame(frame);
	for (const delivery of deliveries) emitter.deliver(delivery);
	return emitter.finish();
}

function createEmitter(parts: readonly FrozenPart[], frames: readonly Frame[], deliveries: readonly Delivery[]) {
	const byName = new Map(parts.map((part) => [part.name, part]));
	const graphs = new Map<GraphId, Graph>();
	const blocks = new Map<number, TimedBlock[]>();
	const parameters = new Map<number, Map<string, Map<string, Parameter>>>();
	/** What is on a device, by `device part/id`. */
	const held = new Map<string, Piece[]>();
	/** Messages sent and not yet received, by channel: the value key and piece they become. */
	const inFlight = new Map<string, { readonly key: string; readonly piece: Piece }[]>();
	let joins = 0;

	const keyOfOutput = ({ part, output }: OutputOf): ValueKey => {
		const owner = byName.get(part)!;
		return { part: owner, id: owner.trace.outputs[owner.trace.chain.outputs.indexOf(output)]! };
	};
	const keyOf = (device: number, { part, id }: ValueKey) => `${device} ${part.name}/${id}`;
	const typeOf = ({ part, id }: ValueKey): { dtype: DType; shape: Shape } => {
		const { dtype, shape } = part.trace.definitions.get(id)!;
		return { dtype, shape: shape.slice(1) };
	};
	/** What a frame reads from elsewhere. */
	const needsOf = (frame: Frame): Need[] => {
		const part = byName.get(frame.part)!;
		const [from, to] = frame.samples;
		const { feeds, receives } = builtOf(part, frame);
		const taken = feeds.flatMap(([name]) => (part.takes[name] ? [keyOfOutput(part.takes[name])] : []));
		return [...receives.map(([id]) => ({ part, id })), ...taken].map((value) => ({ ...value, device: frame.device, from, to }));
	};
	const built = new Map<string, ReturnType<typeof stageGraph>>();
	const builtOf = (part: FrozenPart, { from, to, samples }: Frame) => {
		const batch = samples[1] - samples[0];
		const id = `frozen.${part.name}.${from}-${to}x${batch}`;
		let stage = built.get(id);
		if (!stage) {
			const raw = stageGraph(part.trace, from, to, batch);
			// What was received is still where it was: only what is made here goes out.
			const sends = raw.sends.filter(([value]) => part.trace.definitions.get(value)!.layer >= from);
			const graph = extract(
				raw.graph,
				id,
				raw.graph.inputs,
				sends.map(([, name]) => name),
				{ keepInputs: true },
			);
			stage = { ...raw, sends, graph: simplify(graph) };
			built.set(id, stage);
			graphs.set(graphId(id), stage.graph);
		}
		return { ...stage, id: graphId(id) };
	};

	// Who needs what, in the order in which it will be asked for: decides what is sent where, and when a piece is done with.
	const needs: (Need & { done: boolean })[] = [
		...frames.flatMap(needsOf),
		...deliveries.map(({ device, value, from, to }) => ({ ...keyOfOutput(value), device, from, to })),
	].map((need) => ({ ...need, done: false }));
	const needsByValue = new Map<string, (typeof needs)[0][]>();
	for (const need of needs) {
		const key = `${need.part.name}/${need.id}`;
		needsByValue.set(key, [...(needsByValue.get(key) ?? []), need]);
	}
	let nextNeed = 0;

	const pieces = (key: string) => {
		let list = held.get(key);
		if (!list) {
			list = [];
			held.set(key, list);
		}
		return list;
	};
	/** Brings messages in until samples [from, to) are on the device, then gives the pieces that hold them. */
	const gather = (need: Need, out: Instruction[], place: string): readonly Piece[] => {
		const key = keyOf(need.device, need);
		for (;;) {
			const found = covering(pieces(key), need.from, need.to);
			if (found) return found;
			const channel = [...inFlight].find(
				([name, queue]) =>
					name.endsWith(`>${need.device}`) && queue.some((m) => m.key === key && m.piece.from < need.to && m.piece.to > need.from),
			);
			const message = channel?.[1].shift();
			if (!channel || !message) {
				throw new DiffusionPipeError('program', 'a frozen value is needed before it is made', {
					place,
					expected: `samples ${need.from} to ${need.to} of ${need.part.name}/${need.id}`,
					found: pieces(key)
						.map((p) => `${p.from} to ${p.to}`)
						.join(', '),
				});
			}
			const peer = deviceId(Number(channel[0].slice('frozen:'.length).split('>')[0]));
			out.push({ op: 'recv', peer, channel: channelId(channel[0]), slot: message.piece.slot });
			pieces(message.key).push(message.piece);
		}
	};
	/** A slot with exactly samples [from, to): a piece that is just that, or rows joined into a new slot. */
	const exactly = (need: Need, out: Instruction[], place: string, into?: SlotId): { slot: SlotId; fresh: boolean } => {
		const found = gather(need, out, place);
		const only = found.length === 1 && found[0]!.from === need.from && found[0]!.to === need.to;
		if (only && into === undefined) return { slot: found[0]!.slot, fresh: false };
		const { dtype, shape } = typeOf(need);
		let at = need.from;
		const cuts = found.map((piece) => {
			const to = Math.min(piece.to, need.to);
			const cut = { rows: piece.to - piece.from, from: at - piece.from, to: to - piece.from };
			at = to;
			return cut;
		});
		const { id, graph } = rowsGraph(dtype, shape, cuts);
		graphs.set(id, graph);
		const slot = into ?? slotId(`joined:${need.part.name}/${need.id}#${joins++}`);
		out.push({ op: 'run', graph: id, inputs: found.map((p) => p.slot), outputs: [slot], label: `rows of ${need.part.name}` });
		return { slot, fresh: true };
	};
	/** Drops pieces of a value on a device that nobody there needs any more. */
	const release = (value: ValueKey, device: number, out: Instruction[]) => {
		const key = keyOf(device, value);
		const open = (needsByValue.get(`${value.part.name}/${value.id}`) ?? []).filter((n) => !n.done && n.device === device);
		const list = pieces(key);
		const over = list.filter((p) => !open.some((n) => n.from < p.to && n.to > p.from));
		if (over.length === 0) return;
		out.push({ op: 'drop', slots: over.map((p) => p.slot) });
		held.set(
			key,
			list.filter((p) => !over.includes(p)),
		);
	};
	/** Sends what other devices will need of a fresh piece, each the rows it needs; the last gets the piece itself where it needs all and nobody here does. */
	const sendOn = (value: ValueKey, device: number, piece: Piece, out: Instruction[]) => {
		const wanted = new Map<number, [number, number]>();
		for (const need of needsByValue.get(`${value.part.name}/${value.id}`) ?? []) {
			if (need.done || need.device === device || need.from >= piece.to || need.to <= piece.from) continue;
			const [from, to] = [Math.max(need.from, piece.from), Math.min(need.to, piece.to)];
			const known = wanted.get(need.device);
			wanted.set(need.device, known ? [Math.min(known[0], from), Math.max(known[1], to)] : [from, to]);
		}
		const { dtype, shape } = typeOf(value);
		const neededHere = (needsByValue.get(`${value.part.name}/${value.id}`) ?? []).some(
			(n) => !n.done && n.device === device && n.from < piece.to && n.to > piece.from,
		);
		const targets = [...wanted].sort(([a], [b]) => a - b);
		for (const [i, [target, [from, to]]] of targets.entries()) {
			const whole = i === targets.length - 1 && !neededHere && from === piece.from && to === piece.to;
			const slot = whole ? piece.slot : slotId(`moved:${value.part.name}/${value.id}[${from}:${to}]`);
			const channel = `frozen:${device}>${target}`;
			if (whole) {
				const key = keyOf(device, value);
				held.set(
					key,
					pieces(key).filter((p) => p !== piece),
				);
			} else {
				const { id, graph } = rowsGraph(dtype, shape, [{ rows: piece.to - piece.from, from: from - piece.from, to: to - piece.from }]);
				graphs.set(id, graph);
				out.push({ op: 'run', graph: id, inputs: [piece.slot], outputs: [slot], label: `rows of ${value.part.name}` });
			}
			out.push({ op: 'send', peer: deviceId(target), channel: channelId(channel), slot });
			const queue = inFlight.get(channel) ?? [];
			inFlight.set(channel, queue);
			queue.push({ key: keyOf(target, value), piece: { from, to, slot } });
		}
	};
	const addBlock = (device: number, startMs: number, instructions: readonly Instruction[]) => {
		const list = blocks.get(device) ?? [];
		blocks.set(device, list);
		list.push({ startMs, instructions });
	};

	return {
		frame(frame: Frame): void {
			const { device, samples, startMs } = frame;
			const part = byName.get(frame.part)!;
			const stage = builtOf(part, frame);
			const place = `frozen ${part.name} layers ${frame.from} to ${frame.to}, samples ${samples.join(' to ')}, device ${device}`;
			const out: Instruction[] = [];
			const slots = new Map<string, SlotId>();
			const temporary: SlotId[] = [];
			const used: ValueKey[] = [];
			const take = (input: string, value: ValueKey) => {
				const { slot, fresh } = exactly({ ...value, device, from: samples[0], to: samples[1] }, out, place);
				slots.set(input, slot);
				if (fresh) temporary.push(slot);
				used.push(value);
			};
			for (const [id, input] of stage.receives) take(input, { part, id });
			for (const [name, input] of stage.feeds) {
				const taken = part.takes[name];
				if (taken) {
					take(input, keyOfOutput(taken));
					continue;
				}
				const slot = slotId(`feed:${sourceOf(part.name, name)}[${samples.join(':')}]`);
				out.push({ op: 'feed', slot, source: sourceOf(part.name, name), from: samples[0], to: samples[1] });
				slots.set(input, slot);
				temporary.push(slot);
			}
			const mine = parameters.get(device) ?? new Map<string, Map<string, Parameter>>();
			parameters.set(device, mine);
			const own = mine.get(part.name) ?? new Map<string, Parameter>();
			mine.set(part.name, own);
			for (const p of stage.parameters) {
				own.set(p.name, p);
				slots.set(p.name, frozenParameterSlot(part.name, p.name));
			}
			const made = stage.sends.map(([id, name]) => ({ id, name, slot: slotId(`${part.name}/${id}[${samples.join(':')}]`) }));
			out.push({
				op: 'run',
				graph: stage.id,
				inputs: stage.graph.inputs.map((name) => slots.get(name)!),
				outputs: stage.graph.outputs.map((name) => made.find((m) => m.name === name)!.slot),
				label: `${part.name} ${frame.from}-${frame.to} [${samples.join(':')}]`,
				frozen: { part: part.name, layers: [frame.from, frame.to], samples },
			});
			if (temporary.length > 0) out.push({ op: 'drop', slots: temporary });
			for (let k = needsOf(frame).length; k > 0; k--) needs[nextNeed++]!.done = true;
			for (const value of used) release(value, device, out);
			for (const { id, slot } of made) {
				const piece: Piece = { from: samples[0], to: samples[1], slot };
				pieces(keyOf(device, { part, id })).push(piece);
				sendOn({ part, id }, device, piece, out);
				release({ part, id }, device, out);
			}
			addBlock(device, startMs, out);
		},
		deliver({ device, slot, value, from, to }: Delivery): void {
			const out: Instruction[] = [];
			const key = keyOfOutput(value);
			exactly({ ...key, device, from, to }, out, `delivery of ${value.part}.${value.output} to device ${device}`, slot);
			needs[nextNeed++]!.done = true;
			release(key, device, out);
			addBlock(device, Number.POSITIVE_INFINITY, out);
		},
		finish: (): FrozenCode => ({ blocks, graphs, parameters }),
	};
}
