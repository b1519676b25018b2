/** @file Lowering: from a cut chain, a schedule and replicas to one static program per device. */
import { DiffusionPipeError } from '../core/errors.ts';
import { byteSize, type TypeShape } from '../core/tensor.ts';
import { simplify } from '../graph/passes/index.ts';
import type { Recompute } from '../graph/saved.ts';
import { type Graph, type ValueName, valueNamed } from '../graph/types.ts';
import { type ChainTrace, liveAt, type StageGraph, stageGraph } from '../nn/chain.ts';
import type { Schedule } from '../plan/schedules/types.ts';
import { type BankLayout, layoutBank } from './layout.ts';
import { normSquaredGraph, type TrainingStage, trainingStage } from './stage.ts';
import {
	type Bank,
	channelId,
	type DeviceProgram,
	deviceId,
	type GraphId,
	type GraphSignature,
	graphId,
	groupId,
	type Instruction,
	type Program,
	type Resident,
	type SlotId,
	type SourceType,
	slotId,
} from './types.ts';

/** How a training step is laid over devices. Replica r's stage s runs on device r * stages + s. */
export interface TrainingLayout {
	/** First layer of each stage but the first. */
	readonly cuts: readonly number[];
	/** Copies of the whole pipeline, each on its share of the batch. */
	readonly replicas: number;
	readonly microBatches: number;
	/** Samples of one micro-batch. */
	readonly microBatchSize: number;
	/** One row per stage. */
	readonly schedule: Schedule;
	readonly recompute?: Recompute;
	/** Moments the optimiser keeps per parameter (AdamW 2, with EMA 3). */
	readonly moments: number;
	/** Length of the hyperparameter vector fed to `update`; 0: no update, the program only leaves the gradients in their banks. */
	readonly hyperSize: number;
}

/** A program with its graphs and the places of its parameters. */
export interface Compiled {
	readonly program: Program;
	readonly graphs: ReadonlyMap<GraphId, Graph>;
	/** One per stage. */
	readonly banks: readonly BankLayout[];
}

/** [from, to) of each stage. */
export function stageRanges(layers: number, cuts: readonly number[]): readonly (readonly [number, number])[] {
	const bounds = [0, ...cuts, layers];
	for (let i = 1; i < bounds.length; i++) {
		if (bounds[i]! <= bounds[i - 1]!) {
			throw new DiffusionPipeError('program', `stage ${i - 1} has no layers`, {
				place: `cuts ${cuts.join(', ')}`,
				expected: `rising numbers between 1 and ${layers - 1}`,
			});
		}
	}
	return bounds.slice(1).map((to, i) => [bounds[i]!, to] as const);
}

/** Signature of a graph; `workspaceBytes` bounds its inner values from above by what is alive at once in node order. */
export function signatureOf(graph: Graph): GraphSignature {
	const type = (name: ValueName): TypeShape => {
		const { dtype, shape } = valueNamed(graph, name);
		return { dtype, shape };
	};
	return { inputs: graph.inputs.map(type), outputs: graph.outputs.map(type), workspaceBytes: peakBytes(graph) };
}

/** Most bytes of inner values alive at once when nodes run in order and each value is freed after its last use. */
export function peakBytes(graph: Graph): number {
	const last = new Map<ValueName, number>();
	graph.nodes.forEach((node, i) => {
		for (const name of node.inputs) if (name !== '') last.set(name, i);
	});
	const outside = new Set<ValueName>([...graph.inputs, ...graph.outputs, ...graph.constants.keys()]);
	let alive = 0;
	let peak = 0;
	graph.nodes.forEach((node, i) => {
		for (const o of node.outputs) if (!outside.has(o)) alive += byteSize(valueNamed(graph, o));
		peak = Math.max(peak, alive);
		for (const name of new Set(node.inputs)) {
			if (name !== '' && last.get(name) === i && !outside.has(name)) alive -= byteSize(valueNamed(graph, name));
		}
		for (const o of node.outputs) if (!outside.has(o) && !last.has(o)) alive -= byteSize(valueNamed(graph, o));
	});
	return peak;
}

/** Compiles a training step of `trace` (a chain whose single output is the loss) for `layout`. */
export function lowerTraining(trace: ChainTrace, layout: TrainingLayout): Compiled {
	const { replicas, microBatches, microBatchSize, schedule, recompute = 'views' } = layout;
	const ranges = stageRanges(trace.chain.layers.length, layout.cuts);
	const count = ranges.length;
	if (schedule.length !== count) {
		throw new DiffusionPipeError('program', 'the schedule has another number of stages', {
			place: 'lowering',
			expected: `${count} rows`,
			found: `${schedule.length}`,
		});
	}
	const stages: TrainingStage[] = new Array(count);
	/** Ids at the cut after each stage whose gradient comes back over it. */
	const back: Set<string>[] = new Array(count);
	let gradsBack = new Set<string>();
	for (let s = count - 1; s >= 0; s--) {
		const [from, to] = ranges[s]!;
		back[s] = gradsBack;
		const built = trainingStage(trace, from, to, microBatchSize, gradsBack, trace.outputs, recompute);
		stages[s] = built;
		const passed = built.stage.passes.filter((id) => gradsBack.has(id));
		gradsBack = new Set([...built.inputGrads.map(([id]) => id), ...passed]);
	}
	checkUntied(stages);
	const banks = stages.map((st, s) => layoutBank(`stage${s}`, st.stage.parameters));
	const graphs = new Map<GraphId, Graph>();
	stages.forEach((st, s) => {
		graphs.set(forwardId(s), st.forward);
		if (st.backward) graphs.set(backwardId(s), st.backward);
	});
	if (layout.hyperSize > 0) for (const bank of banks) graphs.set(normId(bank.trained), normSquaredGraph(bank.trained));
	const globalBatch = replicas * microBatches * microBatchSize;
	const devices: DeviceProgram[] = [];
	for (let r = 0; r < replicas; r++) {
		for (let s = 0; s < count; s++) devices.push(lowerDevice(trace, layout, stages, banks, back, r, s));
	}
	const groups: Record<string, readonly ReturnType<typeof deviceId>[]> = {};
	const range = (n: number) => [...Array(n).keys()];
	if (replicas > 1) for (const s of range(count)) groups[`stage${s}`] = range(replicas).map((r) => deviceId(r * count + s));
	if (count > 1) for (const r of range(replicas)) groups[`replica${r}`] = range(count).map((s) => deviceId(r * count + s));
	const sources: Record<string, SourceType> = {};
	if (layout.hyperSize > 0) sources.hyper = { dtype: 'float32', shape: [layout.hyperSize], perSample: false };
	for (const [name, { dtype, shape }] of Object.entries(trace.chain.inputs))
		sources[name] = { dtype, shape: [globalBatch, ...shape], perSample: true };
	const program: Program = {
		version: 1,
		name: `${trace.chain.name} training, ${replicas} x ${count} devices`,
		devices,
		graphs: Object.fromEntries([...graphs].map(([id, graph]) => [id, signatureOf(graph)])),
		groups,
		sources,
	};
	return { program, graphs, banks };
}

/** Two stages with a parameter in common would train two copies of it, apart from each other. */
function checkUntied(stages: readonly TrainingStage[]): void {
	const owner = new Map<string, number>();
	stages.forEach(({ stage }, s) => {
		for (const { name, trained } of stage.parameters) {
			const first = owner.get(name);
			owner.set(name, s);
			if (first === undefined || !trained) continue;
			throw new DiffusionPipeError('program', `stages ${first} and ${s} share a parameter`, {
				place: name,
				expected: 'the layers that use it in one stage',
				hint: 'cut elsewhere',
			});
		}
	});
}

const forwardId = (s: number) => graphId(`stage${s}.forward`);
const backwardId = (s: number) => graphId(`stage${s}.backward`);
const normId = (size: number) => graphId(`normSquared.${size}`);
const parameterSlot = (name: string) => slotId(`param:${name}`);
const gradientSlot = (name: string) => slotId(`sum:${name}`);
const flatSlot = slotId('sum:*');

/** Residents of a bank: each parameter, and for training each gradient and the flat gradient buffer. */
export function bankResidents({ bank, trained: front, parameters }: BankLayout, training: boolean): Resident[] {
	const each = parameters.flatMap(({ name, shape, offset, trained }): Resident[] => [
		{ slot: parameterSlot(name), dtype: 'float32', shape, bank, role: 'parameter', parameter: name, offset },
		...(training && trained
			? [{ slot: gradientSlot(name), dtype: 'float32', shape, bank, role: 'gradient', parameter: name, offset } as const]
			: []),
	]);
	return training
		? [...each, { slot: flatSlot, dtype: 'float32', shape: [front], bank, role: 'gradient', parameter: '*', offset: 0 }]
		: each;
}

/** How a forward-only program is laid out: copies of the chain, each on its share of the batch and on one device per stage. */
export interface ForwardLayout {
	/** Devices in all: copies times stages. Copy c's stage s runs on device c * stages + s. */
	readonly devices: number;
	/** Samples of one run of a graph. */
	readonly microBatchSize: number;
	/** First layer of each stage but the first. Default: one stage. */
	readonly cuts?: readonly number[];
	/** Micro-batches that follow each other through the stages of a copy. Default 1. */
	readonly microBatches?: number;
}

/** Compiles the forward pass of `trace` for sampling: the last stage of every copy fetches its share of the chain's outputs. */
export function lowerForward(trace: ChainTrace, layout: ForwardLayout): Compiled {
	const { devices, microBatchSize, cuts = [], microBatches = 1 } = layout;
	const stages = stageRanges(trace.chain.layers.length, cuts).map(([from, to], s): ForwardStage => {
		const stage = stageGraph(trace, from, to, microBatchSize);
		return {
			...stage,
			graph: simplify(stage.graph),
			id: cuts.length === 0 ? graphId('forward') : forwardId(s),
			bank: layoutBank(cuts.length === 0 ? 'weights' : `stage${s}`, stage.parameters),
			incoming: s === 0 ? [] : liveAt(trace, from),
			outgoing: to === trace.chain.layers.length ? [] : liveAt(trace, to),
		};
	});
	if (!Number.isSafeInteger(devices / stages.length) || devices < 1) {
		throw new DiffusionPipeError('program', 'the stages do not fill the devices', {
			place: 'lowering',
			expected: `a multiple of ${stages.length} devices`,
			found: `${devices}`,
		});
	}
	const samples = (devices / stages.length) * microBatches * microBatchSize;
	const sources: Record<string, SourceType> = {};
	for (const [name] of stages.flatMap((stage) => stage.feeds)) {
		const { dtype, shape } = trace.chain.inputs[name]!;
		sources[name] = { dtype, shape: [samples, ...shape], perSample: true };
	}
	return {
		program: {
			version: 1,
			name: `${trace.chain.name} forward, ${devices} devices`,
			devices: Array.from({ length: devices }, (_, d) => forwardDevice(trace, stages, d, microBatches, microBatchSize)),
			graphs: Object.fromEntries(stages.map(({ id, graph }) => [id, signatureOf(graph)])),
			groups: {},
			sources,
		},
		graphs: new Map(stages.map(({ id, graph }) => [id, graph])),
		banks: stages.map((stage) => stage.bank),
	};
}

interface ForwardStage extends StageGraph {
	readonly id: GraphId;
	readonly bank: BankLayout;
	/** Live ids that come in and go out, in channel order. */
	readonly incoming: readonly string[];
	readonly outgoing: readonly string[];
}

function forwardDevice(
	trace: ChainTrace,
	stages: readonly ForwardStage[],
	d: number,
	microBatches: number,
	microBatchSize: number,
): DeviceProgram {
	const s = d % stages.length;
	const { graph, id, bank, feeds, receives, sends, parameters, incoming, outgoing } = stages[s]!;
	const isLast = s === stages.length - 1;
	const device = deviceId(d);
	const channel = (from: number) => channelId(`${from}>${from + 1}`);
	const iteration: Instruction[] = [];
	for (let m = 0; m < microBatches; m++) {
		const micro = Math.floor(d / stages.length) * microBatches + m;
		const from = micro * microBatchSize;
		const feed = (name: string) => slotId(`feed:${name}#${m}`);
		const live = (liveId: string) => slotId(`${liveId}#${m}`);
		// What is used here and sent on has two slots, the one received and the copy sent; what only passes keeps its slot.
		const received = new Map(receives.map(([liveId]) => [liveId, slotId(`in:${liveId}#${m}`)]));
		const inputs = new Map<string, SlotId>([
			...feeds.map(([name, input]) => [input, feed(name)] as const),
			...receives.map(([liveId, input]) => [input, received.get(liveId)!] as const),
			...parameters.map((p) => [p.name, parameterSlot(p.name)] as const),
		]);
		for (const [name] of feeds) iteration.push({ op: 'feed', slot: feed(name), source: name, from, to: from + microBatchSize });
		for (const liveId of incoming)
			iteration.push({ op: 'recv', peer: deviceId(d - 1), channel: channel(d - 1), slot: received.get(liveId) ?? live(liveId) });
		iteration.push({
			op: 'run',
			graph: id,
			inputs: graph.inputs.map((name) => inputs.get(name)!),
			outputs: sends.map(([liveId]) => live(liveId)),
			action: { stage: s, kind: 'F', micro },
			label: `${s}F${micro}`,
		});
		const done = [...feeds.map(([name]) => feed(name)), ...received.values()];
		if (isLast) {
			trace.outputs.forEach((liveId, i) => {
				iteration.push({ op: 'fetch', slot: live(liveId), name: trace.chain.outputs[i]!, from });
			});
			done.push(...trace.outputs.map(live));
		}
		if (done.length > 0) iteration.push({ op: 'drop', slots: done });
		for (const liveId of outgoing) iteration.push({ op: 'send', peer: deviceId(d + 1), channel: channel(d), slot: live(liveId) });
	}
	return {
		device,
		banks: [{ id: bank.bank, size: bank.size, moments: 0 }],
		residents: bankResidents(bank, false),
		prologue: [],
		iteration,
		epilogue: [],
	};
}

function lowerDevice(
	trace: ChainTrace,
	layout: TrainingLayout,
	stages: readonly TrainingStage[],
	banks: readonly BankLayout[],
	back: readonly ReadonlySet<string>[],
	r: number,
	s: number,
): DeviceProgram {
	const { microBatches, microBatchSize, replicas } = layout;
	const count = stages.length;
	const built = stages[s]!;
	const { stage } = built;
	const device = deviceId(r * count + s);
	const next = deviceId(r * count + s + 1);
	const previous = deviceId(r * count + s - 1);
	const channel = (from: number, to: number) => channelId(`${from}>${to}`);
	const out: Instruction[] = [];
	const { from: firstLayer, incoming, outgoing } = cutsOf(trace, layout, s);
	const parameterNames = new Set(stage.parameters.map((p) => p.name));
	const feedOf = new Map(stage.feeds.map(([name, input]) => [input as string, name]));
	const receiveOf = new Map(stage.receives.map(([id, input]) => [input as string, id]));
	const live = (id: string, m: number) => slotId(`${id}#${m}`);
	const grad = (id: string, m: number) => slotId(`grad:${id}#${m}`);
	const saved = (name: string, m: number) => slotId(`saved:${name}#${m}`);
	// A value used here and sent on has two slots, the one received and the copy sent; one that only passes keeps its slot.
	const usedHere = new Set(stage.receives.map(([id]) => id));
	const arriving = (id: string, m: number) => (usedHere.has(id) ? slotId(`in:${id}#${m}`) : live(id, m));
	const ownGrads = new Set(built.outputGrads.map(([id]) => id));
	const arrivingGrad = (id: string, m: number) => (ownGrads.has(id) ? slotId(`gradIn:${id}#${m}`) : grad(id, m));
	const feed = (name: string, m: number) => slotId(`feed:${name}#${m}`);
	/** Slot of a graph input or saved value on micro-batch m. */
	const slotOf = (name: ValueName, m: number): SlotId => {
		if (parameterNames.has(name)) return parameterSlot(name);
		const fed = feedOf.get(name);
		if (fed !== undefined) return feed(fed, m);
		const id = receiveOf.get(name);
		return id !== undefined ? arriving(id, m) : saved(name, m);
	};
	const isParameter = (name: ValueName) => parameterNames.has(name);
	const keep = new Set<ValueName>(built.backward ? built.saved : []);

	const forward = (m: number) => {
		const start = (r * microBatches + m) * microBatchSize;
		for (const [name] of stage.feeds) out.push({ op: 'feed', slot: feed(name, m), source: name, from: start, to: start + microBatchSize });
		for (const id of incoming) out.push({ op: 'recv', peer: previous, channel: channel(previous, device), slot: arriving(id, m) });
		const sentAs = new Map(built.sends.map(([id, name]) => [name, id]));
		out.push({
			op: 'run',
			graph: forwardId(s),
			inputs: built.forward.inputs.map((name) => slotOf(name, m)),
			outputs: built.forward.outputs.map((name) => {
				const id = sentAs.get(name);
				return id !== undefined ? live(id, m) : saved(name, m);
			}),
			action: { stage: s, kind: 'F', micro: m },
			label: `${s}F${m}`,
		});
		const done = [...stage.feeds, ...stage.receives].map(([, input]) => input).filter((input) => !keep.has(input));
		// A stage output that nothing saved and nobody receives (it was replaced by its copy) ends here too.
		const unsent = stage.sends
			.filter(([id, name]) => !built.sends.some(([i, n]) => i === id && n === name) && !keep.has(name))
			.map(([, name]) => name);
		const dropped = [...done, ...unsent].map((name) => slotOf(name, m));
		if (dropped.length > 0) out.push({ op: 'drop', slots: dropped });
		if (s < count - 1) for (const id of outgoing) out.push({ op: 'send', peer: next, channel: channel(device, next), slot: live(id, m) });
		else {
			for (const [i, id] of trace.outputs.entries()) {
				out.push({ op: 'fetch', slot: live(id, m), name: trace.chain.outputs[i]!, from: start });
				out.push({ op: 'drop', slots: [live(id, m)] });
			}
		}
	};

	const backward = (m: number) => {
		const received = outgoing.filter((id) => back[s]!.has(id));
		for (const id of received) out.push({ op: 'recv', peer: next, channel: channel(next, device), slot: arrivingGrad(id, m) });
		if (built.backward) {
			const gradInput = new Map(built.outputGrads.map(([id, input]) => [input, id]));
			const gradOutput = new Map(built.inputGrads.map(([id, output]) => [output, id]));
			const sums = new Map(built.weightGrads.flatMap(([name, input, output]) => [[input, name] as const, [output, name] as const]));
			const slot = (name: ValueName): SlotId => {
				const sum = sums.get(name);
				if (sum !== undefined) return gradientSlot(sum);
				const arrived = gradInput.get(name);
				if (arrived !== undefined) return arrivingGrad(arrived, m);
				const given = gradOutput.get(name);
				return given !== undefined ? grad(given, m) : slotOf(name, m);
			};
			out.push({
				op: 'run',
				graph: backwardId(s),
				inputs: built.backward.inputs.map(slot),
				outputs: built.backward.outputs.map(slot),
				action: { stage: s, kind: 'B', micro: m },
				label: `${s}B${m}`,
			});
			const kept = built.saved.filter((n) => !isParameter(n)).map((n) => slotOf(n, m));
			const spent = [...kept, ...received.filter((id) => ownGrads.has(id)).map((id) => arrivingGrad(id, m))];
			if (spent.length > 0) out.push({ op: 'drop', slots: spent });
		}
		if (firstLayer > 0) {
			const given = new Set([...built.inputGrads.map(([id]) => id), ...stage.passes]);
			for (const id of incoming) {
				if (s > 0 && back[s - 1]!.has(id) && given.has(id))
					out.push({ op: 'send', peer: previous, channel: channel(device, previous), slot: grad(id, m) });
			}
		}
	};

	if (layout.hyperSize > 0) out.push({ op: 'feed', slot: slotId('hyper'), source: 'hyper', from: 0, to: 0 });
	for (const action of layout.schedule[s]!) {
		if (action.kind === 'F') forward(action.micro);
		else if (action.kind === 'B') backward(action.micro);
		else {
			throw new DiffusionPipeError('program', `schedules that part B into ${action.kind} are not lowered`, {
				place: `stage ${s}, micro-batch ${action.micro}`,
				expected: 'F or B',
			});
		}
	}
	const bank = banks[s]!;
	const norm = slotId('normSquared');
	if (replicas > 1) out.push({ op: 'allReduce', group: groupId(`stage${s}`), slots: [flatSlot] });
	if (layout.hyperSize > 0) {
		out.push({ op: 'run', graph: normId(bank.trained), inputs: [flatSlot], outputs: [norm], label: 'norm' });
		if (count > 1) out.push({ op: 'allReduce', group: groupId(`replica${r}`), slots: [norm] });
		out.push({ op: 'update', bank: bank.bank, hyper: slotId('hyper'), normSquared: norm });
		if (device === 0) out.push({ op: 'fetch', slot: norm, name: 'normSquared', from: 0 });
		out.push({ op: 'drop', slots: [norm, slotId('hyper')] });
	}
	const banksHere: Bank[] = [{ id: bank.bank, size: bank.size, moments: layout.moments, trained: bank.trained }];
	return { device, banks: banksHere, residents: bankResidents(bank, true), prologue: [], iteration: out, epilogue: [] };
}

/** Live ids that come in and go out of stage s, in channel order. */
function cutsOf(
	trace: ChainTrace,
	layout: { readonly cuts: readonly number[] },
	s: number,
): { from: number; incoming: string[]; outgoing: string[] } {
	const [from, to] = stageRanges(trace.chain.layers.length, layout.cuts)[s]!;
	return { from, incoming: from === 0 ? [] : liveAt(trace, from), outgoing: to === trace.chain.layers.length ? [] : liveAt(trace, to) };
}
