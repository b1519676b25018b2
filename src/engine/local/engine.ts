/** @file The local engine: runs a program on this machine, one worker thread per device, and ends with one clear error when any fails. */
import { Worker } from 'node:worker_threads';
import { DiffusionPipeError } from '../../core/errors.ts';
import { unpackError } from '../../core/packed-error.ts';
import { byteSize, makeArray, sizeOf, type Tensor, type TypeShape } from '../../core/tensor.ts';
import { workerEntry } from '../../core/worker-entry.ts';
import { writeOnnx } from '../../graph/onnx/index.ts';
import { type Graph, valueNamed } from '../../graph/types.ts';
import type { Compiled } from '../../program/lower.ts';
import { allInstructions, kindsOf, sweptProgram } from '../../program/swept.ts';
import type { Timeline } from '../../program/timeline.ts';
import type { BankId, DeviceId, Program } from '../../program/types.ts';
import { verifyProgram } from '../../program/verify.ts';
import { allocateBank, type BankMemory } from './banks.ts';
import { measureChannelBlock } from './channel-block.ts';
import { compileElementwise } from './kernel/elementwise.ts';
import { lowerForOrt } from './lowering.ts';
import { createEnvironment, type Environment, releaseValue } from './native.ts';
import { reserveArena } from './pages.ts';
import type { DeviceSetup, Fetched, FromDevice, GraphModel, SharedTensor, ToDevice, UpdateModels } from './protocol.ts';
import { createChannel, createControl, createMeeting, drain, stop } from './shared.ts';
import { timelineOf } from './timeline.ts';
import { updateParts } from './update.ts';

export interface LocalEngineOptions {
	/** Graph of the optimiser step, for programs with `update`. */
	readonly update?: Graph;
	/** Threads inside one operator; by default 1. */
	readonly threads?: number;
	/** Memory to use as a device's bank, as another engine's weights; undefined: memory of its own. */
	readonly banks?: (device: DeviceId, bank: BankId) => BankMemory | undefined;
}

/** What an iteration gave: fetched tensors by name (joined in sample order along the first axis), and its timeline when traced. */
export interface IterationResult {
	readonly fetched: ReadonlyMap<string, Tensor>;
	readonly timeline: Timeline | undefined;
	/** What each device held after each instruction of the section, when traced. */
	readonly held: readonly HeldBytes[] | undefined;
	/** Native tensors that the devices hold afterwards: the same after every iteration. */
	readonly nativeValues: number;
}

/** Memory of a device in a traced run. */
export interface HeldBytes {
	readonly device: DeviceId;
	/** Its banks. */
	readonly fixedBytes: number;
	/** Its slots after each instruction, fed ones among them. */
	readonly slotBytes: Float64Array;
}

/** A host tensor for the engine; copied to shared memory unless it is there already. */
export type Feed = Tensor | SharedTensor;

export interface LocalEngine {
	readonly program: Program;
	/**
	 * Runs a section on every device; `swept`: that of iterations with a sweep ahead. One run at a time. Rejects with one engine error; the engine is closed
	 * then.
	 */
	run(
		section: 'prologue' | 'iteration' | 'epilogue',
		feeds: Readonly<Record<string, Feed>>,
		options?: { readonly trace?: boolean; readonly swept?: boolean },
	): Promise<IterationResult>;
	/** Live view of a bank's buffer on a device: `moment` picks an optimiser moment. Touch it only between runs. */
	bank(device: DeviceId, bank: BankId, role: 'parameter' | 'gradient' | { readonly moment: number }): Float32Array;
	/** Ends the threads and gives their native memory back. A run under way is stopped between two instructions, and rejects. */
	close(): Promise<void>;
	/** For tests of failure: the device's thread. */
	worker(device: DeviceId): Worker;
}

let environment: Environment | undefined;

/** The process's ONNX Runtime environment. */
export function sharedEnvironment(): Environment {
	environment ??= createEnvironment();
	return environment;
}

let measuredBlock: { readonly block: number | undefined } | undefined;

function channelBlock(): number | undefined {
	measuredBlock ??= { block: measureChannelBlock(sharedEnvironment()) };
	return measuredBlock.block;
}

/** A graph as ONNX bytes with its names, for a device. */
export function modelOf(graph: Graph): GraphModel {
	return {
		model: writeOnnx(lowerForOrt(graph, channelBlock())),
		inputs: graph.inputs,
		outputs: graph.outputs,
		outputTypes: graph.outputs.map((name): TypeShape => {
			const { dtype, shape } = valueNamed(graph, name);
			return { dtype, shape };
		}),
	};
}

function updateModels(graph: Graph): UpdateModels {
	const { once, each, further } = updateParts(graph);
	return { once: once && modelOf(once), each: modelOf(each), further, kernel: compileElementwise(each) };
}

/** Starts a thread per device and compiles the program's graphs there. Throws when a device cannot start. */
export async function createLocalEngine(
	{ program, graphs }: Pick<Compiled, 'program' | 'graphs'>,
	options: LocalEngineOptions = {},
): Promise<LocalEngine> {
	const control = createControl();
	const channels = new Map(channelCapacities(program).map(([id, capacity]) => [id, createChannel(capacity)]));
	const meetings = new Map(Object.entries(program.groups).map(([id, members]) => [id, createMeeting(members.length)]));
	const banks = program.devices.map(
		(d) =>
			new Map(
				d.banks.map((b) => [
					b.id as string,
					options.banks?.(d.device, b.id) ??
						allocateBank(
							b.size,
							b.moments,
							d.residents.some((r) => r.bank === b.id && r.role === 'gradient'),
							b.trained,
						),
				]),
			),
	);
	const models = new Map([...graphs].map(([id, graph]) => [id as string, modelOf(graph)]));
	const update = options.update && updateModels(options.update);
	const shared = sharedEnvironment();
	reserveArena(shared, transientBytes(program));

	let failure: DiffusionPipeError | undefined;
	let closed: Promise<void> | undefined;
	const waiting = new Map<number, { resolve: (m: Extract<FromDevice, { kind: 'done' | 'ready' }>) => void; reject: (e: Error) => void }>();
	const alive = new Set<number>();
	const abort = (error: DiffusionPipeError) => {
		failure ??= error;
		stop(control);
	};
	/** Rejects what waits for the device. One that stopped because of another may be heard before the other: `all` then takes the other's error. */
	const settle = (device: number) => {
		const entry = waiting.get(device);
		waiting.delete(device);
		entry?.reject(failure ?? closedError());
	};
	const workers = program.devices.map((device, k) => {
		const own = new Set(allInstructions(device).flatMap((i) => (i.op === 'run' ? [i.graph as string] : [])));
		const setup: DeviceSetup = {
			environment: shared,
			device,
			groups: program.groups,
			graphs: new Map([...models].filter(([id]) => own.has(id))),
			update,
			banks: banks[k]!,
			channels,
			meetings,
			control,
			threads: options.threads ?? 1,
		};
		const worker = new Worker(workerEntry(import.meta.url, './worker.js'), {
			workerData: setup,
			execArgv: [],
			name: `device ${device.device}`,
		});
		alive.add(device.device);
		worker.on('message', (message: FromDevice) => {
			if (message.kind === 'failed') {
				if (!message.secondary) abort(unpackError(message.error));
				else stop(control);
				settle(device.device);
				return;
			}
			const entry = waiting.get(device.device);
			waiting.delete(device.device);
			entry?.resolve(message);
		});
		worker.on('error', (error) => {
			abort(new DiffusionPipeError('engine', error.message, { place: `device ${device.device}`, cause: error }));
			settle(device.device);
		});
		worker.on('exit', (code) => {
			alive.delete(device.device);
			if (!closed) {
				abort(
					new DiffusionPipeError('engine', `the thread ended unexpectedly (exit code ${code})`, {
						place: `device ${device.device}`,
						hint: 'its memory may have run out',
					}),
				);
			}
			settle(device.device);
		});
		return worker;
	});

	const ask = <K extends 'done' | 'ready'>(k: number): Promise<Extract<FromDevice, { kind: K }>> => {
		const { device } = program.devices[k]!;
		return new Promise((resolve, reject) => {
			if (!alive.has(device)) {
				reject(failure ?? closedError());
				return;
			}
			waiting.set(device, { resolve: resolve as (m: FromDevice) => void, reject });
		});
	};
	/** Waits for every device, so that a failure is reported when all have come to rest. */
	const all = async <K extends 'done' | 'ready'>(answers: readonly Promise<Extract<FromDevice, { kind: K }>>[]) => {
		const settled = await Promise.allSettled(answers);
		const bad = settled.find((s) => s.status === 'rejected');
		if (bad) {
			await close();
			throw failure ?? bad.reason;
		}
		return settled.map((s) => (s as PromiseFulfilledResult<Extract<FromDevice, { kind: K }>>).value);
	};
	const close = (): Promise<void> => {
		closed ??= shutDown();
		return closed;
	};
	const shutDown = async () => {
		stop(control);
		const message: ToDevice = { kind: 'close' };
		await Promise.all(
			workers.map(async (w, k) => {
				if (!alive.has(program.devices[k]!.device)) return;
				const gone = new Promise<void>((resolve) => w.once('exit', () => resolve()));
				w.postMessage(message);
				const timer = setTimeout(() => void w.terminate(), 5000);
				await gone;
				clearTimeout(timer);
			}),
		);
		for (const channel of channels.values()) for (const value of drain(channel)) releaseValue(value);
	};
	const closedError = () => new DiffusionPipeError('engine', 'the engine is closed', { place: program.name });

	await all<'ready'>(program.devices.map((_, k) => ask<'ready'>(k)));
	let busy = false;
	const staging = new Map<string, SharedArrayBuffer>();
	const transient = transientSources(program);
	const sweptOnly = sweptProgram(program);
	/** Host memory is copied to a buffer kept per source, where the run before has surely let go of it; to a new one otherwise. */
	const toShared = (t: Feed, source: string): SharedTensor => {
		if ('buffer' in t) return t;
		const { dtype, shape, data } = t;
		if (data.buffer instanceof SharedArrayBuffer && data.byteOffset === 0) return { dtype, shape, buffer: data.buffer };
		let buffer = transient.has(source) ? staging.get(source) : undefined;
		if (!buffer || buffer.byteLength < data.byteLength) {
			buffer = new SharedArrayBuffer(Math.max(data.byteLength, 8));
			staging.set(source, buffer);
		}
		new Uint8Array(buffer).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
		return { dtype, shape, buffer };
	};
	return {
		program,
		async run(section, feeds, { trace = false, swept = false } = {}) {
			if (failure) throw failure;
			if (closed) throw closedError();
			if (busy) throw new DiffusionPipeError('engine', 'a run is under way', { place: program.name });
			const ran = swept ? sweptOnly : program;
			if (!ran) throw new DiffusionPipeError('engine', 'has no iteration with a sweep ahead', { place: program.name });
			busy = true;
			try {
				checkFeeds(ran, section, feeds);
				const sent = Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, toShared(t, name)]));
				const answers = program.devices.map((_, k) => ask<'done'>(k));
				const message: ToDevice = { kind: 'run', section, swept, feeds: sent, trace };
				for (const w of workers) w.postMessage(message);
				const done = await all<'done'>(answers);
				return {
					fetched: joinFetched(done.flatMap((d) => d.fetched)),
					timeline: trace
						? timelineOf(
								ran,
								section,
								done.map(({ spans }) => spans),
							)
						: undefined,
					held: trace
						? program.devices.map(({ device }, k) => ({ device, fixedBytes: bankBytes(banks[k]!), slotBytes: done[k]!.held }))
						: undefined,
					nativeValues: done.reduce((n, d) => n + d.values, 0),
				};
			} finally {
				busy = false;
			}
		},
		bank(device, bank, role) {
			const k = program.devices.findIndex((d) => d.device === device);
			const memory = banks[k]?.get(bank);
			const array =
				memory && (role === 'parameter' ? memory.parameter : role === 'gradient' ? memory.gradient : memory.moments[role.moment]);
			if (!array) throw new DiffusionPipeError('engine', 'no such bank', { place: `device ${device}, bank ${bank}` });
			return array;
		},
		close,
		worker: (device) => workers[program.devices.findIndex((d) => d.device === device)]!,
	};
}

/** Bytes of a device's banks, padding between their arrays included. */
function bankBytes(banks: ReadonlyMap<string, BankMemory>): number {
	const buffers = new Set(
		[...banks.values()].flatMap(({ parameter, gradient, moments }) => [parameter, gradient, ...moments].map((a) => a?.buffer)),
	);
	return [...buffers].reduce((sum, buffer) => sum + (buffer?.byteLength ?? 0), 0);
}

/** What the program's slots and graphs hold at most beside its banks, over all devices; 0 for a program that breaks a rule, whose run will tell. */
function transientBytes(program: Program): number {
	try {
		return verifyProgram(program).devices.reduce((sum, { peakBytes, fixedBytes }) => sum + peakBytes - fixedBytes, 0);
	} catch {
		return 0;
	}
}

/** Ring sizes: twice the sends of an iteration, so that a sender never waits for a receiver that is a whole iteration behind. */
function channelCapacities(program: Program): [string, number][] {
	const counts = new Map<string, number>();
	for (const d of program.devices) {
		for (const i of allInstructions(d)) if (i.op === 'send') counts.set(i.channel, (counts.get(i.channel) ?? 0) + 1);
	}
	return [...counts].map(([id, n]) => [id, 2 * n]);
}

/** Sources whose every fed slot is dropped in the section that feeds it: their memory is free again when the section ends. */
function transientSources(program: Program): Set<string> {
	const sections = program.devices.flatMap((d) =>
		kindsOf(d).flatMap(({ prologue, iteration, epilogue }) => [prologue, iteration, epilogue]),
	);
	const kept = sections.flatMap((section) => {
		const dropped = new Set(section.flatMap((i) => (i.op === 'drop' ? i.slots : [])));
		return section.flatMap((i) => (i.op === 'feed' && !dropped.has(i.slot) ? [i.source] : []));
	});
	const all = sections.flatMap((section) => section.flatMap((i) => (i.op === 'feed' ? [i.source] : [])));
	return new Set(all.filter((source) => !kept.includes(source)));
}

function checkFeeds(program: Program, section: 'prologue' | 'iteration' | 'epilogue', feeds: Readonly<Record<string, Feed>>): void {
	const used = new Set(program.devices.flatMap((d) => d[section].flatMap((i) => (i.op === 'feed' ? [i.source] : []))));
	for (const name of used) {
		const want = program.sources[name];
		const given = feeds[name];
		const text = (t: TypeShape | undefined) => (t ? `${t.dtype}[${t.shape.join(',')}]` : 'nothing');
		if (!given || text(given) !== text(want)) {
			throw new DiffusionPipeError('engine', 'a feed does not fit', { place: `source ${name}`, expected: text(want), found: text(given) });
		}
		const bytes = 'buffer' in given ? given.buffer.byteLength : given.data.byteLength;
		if (bytes < byteSize(given)) {
			throw new DiffusionPipeError('engine', 'a feed has too few elements', {
				place: `source ${name}`,
				expected: `${byteSize(given)} bytes for ${text(given)}`,
				found: `${bytes}`,
			});
		}
	}
}

/** Joins fetches of one name along the first axis, in order of their first sample. */
function joinFetched(fetched: readonly Fetched[]): Map<string, Tensor> {
	const groups = new Map<string, Fetched[]>();
	for (const f of fetched) {
		const group = groups.get(f.name);
		if (group) group.push(f);
		else groups.set(f.name, [f]);
	}
	const joined = new Map<string, Tensor>();
	for (const [name, parts] of groups) {
		parts.sort((a, b) => a.from - b.from);
		const { dtype, shape } = parts[0]!;
		const rows = parts.reduce((n, p) => n + (p.shape[0] ?? 1), 0);
		const type = { dtype, shape: [rows, ...shape.slice(1)] };
		const bytes = new Uint8Array(parts.reduce((n, p) => n + p.data.byteLength, 0));
		let at = 0;
		for (const p of parts) {
			bytes.set(new Uint8Array(p.data), at);
			at += p.data.byteLength;
		}
		joined.set(name, { ...type, data: makeArray(dtype, sizeOf(type.shape), bytes.buffer) });
	}
	return joined;
}
