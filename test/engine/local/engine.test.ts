/** @file The local engine runs what every engine runs, and tells what it did when. */
import { describe, expect, it } from 'vitest';
import { createLocalEngine } from '../../../src/engine/local/engine.ts';
import { formatAction } from '../../../src/plan/schedules/text.ts';
import { bankId, type DeviceProgram, deviceId, groupId, type Instruction, type Program, slotId } from '../../../src/program/types.ts';
import { verifyProgram } from '../../../src/program/verify.ts';
import { expectClose } from '../../helpers/close.ts';
import { uniformStream } from '../../helpers/random.ts';
import { chainFeeds, crossingChains, mixedChain } from '../chains.ts';
import { seededWeights } from '../reference.ts';
import { compile, engineSuite, layout, type MakeEngine, writeWeights } from '../suite.ts';

/** A local engine behind the suite's interface. */
const makeLocalEngine: MakeEngine = async (compiled, update) => {
	const engine = await createLocalEngine(compiled, update ? { update } : {});
	return {
		run: async (section, feeds, swept = false) => (await engine.run(section, feeds, { swept })).fetched,
		read: async (device, bank, role) => engine.bank(device, bank, role).slice(),
		write: async (device, bank, role, values) => engine.bank(device, bank, role).set(values),
		close: () => engine.close(),
	};
};

engineSuite('local engine', makeLocalEngine);

const accumulateOnly = { moments: 0, hyperSize: 0 };

describe('local engine', () => {
	it('times every instruction when asked, on one clock, in the order of the schedule', async () => {
		const compiled = compile(mixedChain, layout([2], '1f1b', 1, 4), accumulateOnly);
		const engine = await createLocalEngine(compiled);
		try {
			const feeds = chainFeeds(mixedChain, 8);
			expect((await engine.run('iteration', feeds)).timeline).toBeUndefined();
			const { timeline } = await engine.run('iteration', feeds, { trace: true });
			const rows = timeline!.devices.map(({ spans }) => spans.flatMap(({ action }) => (action ? [formatAction(action)] : [])).join(' '));
			expect(rows).toEqual(['0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3', '1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3']);
			for (const { spans } of timeline!.devices) {
				spans.forEach(({ start, end }, i) => {
					expect(start).toBeGreaterThanOrEqual(i === 0 ? 0 : spans[i - 1]!.end);
					expect(end).toBeGreaterThanOrEqual(start);
				});
			}
			const [first, second] = timeline!.devices.map(({ spans }) => spans);
			const sent = first!.find(({ kind }) => kind === 'send')!;
			const received = second!.find(({ kind }) => kind === 'recv')!;
			expect(received.end).toBeGreaterThanOrEqual(sent.start);
		} finally {
			await engine.close();
		}
	});

	it('runs several engines of one process at once', async () => {
		const chains = [mixedChain, crossingChains[0]!, crossingChains[1]!];
		const compiled = chains.map((chain) => compile(chain, layout([2], '1f1b', 1, 2), accumulateOnly));
		const engines = await Promise.all(compiled.map((c) => createLocalEngine(c)));
		try {
			const once = await Promise.all(engines.map((e, i) => e.run('iteration', chainFeeds(chains[i]!, 8))));
			for (const [i, engine] of engines.entries()) {
				const alone = await engine.run('iteration', chainFeeds(chains[i]!, 8));
				expect(alone.fetched).toEqual(once[i]!.fetched);
			}
		} finally {
			await Promise.all(engines.map((e) => e.close()));
		}
	});

	it('computes the same bits every time, whatever the threads do', async () => {
		const compiled = compile(mixedChain, layout([1, 3], '1f1b', 2, 2), accumulateOnly);
		const weights = seededWeights(compiled.banks.flatMap((b) => b.parameters));
		const once = async () => {
			const engine = await createLocalEngine(compiled);
			try {
				await writeWeights(makeEngineOf(engine), compiled, 'parameter', weights);
				const { fetched } = await engine.run('iteration', chainFeeds(mixedChain, 8));
				const gradients = compiled.program.devices.map(({ device, banks }) => engine.bank(device, banks[0]!.id, 'gradient').slice());
				return { fetched, gradients };
			} finally {
				await engine.close();
			}
		};
		expect(await once()).toEqual(await once());
	});

	it('sums float32 slots in device order, the same bits on every device, and leaves what the host fed', async () => {
		// One share takes whole chunks and a rest; the other slot is smaller than the number of devices.
		const sizes = { long: 170_003, short: 2 };
		const devices = [0, 1, 2].map((d): DeviceProgram => {
			const iteration: Instruction[] = [
				...Object.keys(sizes).map((s): Instruction => ({ op: 'feed', slot: slotId(s), source: s, from: d, to: d + 1 })),
				{ op: 'allReduce', group: groupId('all'), slots: Object.keys(sizes).map(slotId) },
				...Object.keys(sizes).map((s): Instruction => ({ op: 'fetch', slot: slotId(s), name: s, from: d })),
				{ op: 'drop', slots: Object.keys(sizes).map(slotId) },
			];
			return { device: deviceId(d), banks: [], residents: [], prologue: [], iteration, epilogue: [] };
		});
		const sources = Object.fromEntries(
			Object.entries(sizes).map(([s, n]) => [s, { dtype: 'float32', shape: [3, n], perSample: true } as const]),
		);
		const program: Program = { version: 1, name: 'sums', devices, graphs: {}, groups: { all: devices.map((d) => d.device) }, sources };
		verifyProgram(program);
		const next = uniformStream(5);
		// Shared memory is fed as it is, without a copy.
		const feeds = Object.fromEntries(
			Object.entries(sizes).map(([s, n]) => {
				const data = new Float32Array(new SharedArrayBuffer(4 * 3 * n));
				data.set(Array.from(data, () => 10 ** (6 * next() - 3)));
				return [s, { dtype: 'float32', shape: [3, n], data } as const];
			}),
		);
		const before = Object.values(feeds).map(({ data }) => Array.from(data));
		const engine = await createLocalEngine({ program, graphs: new Map() });
		try {
			for (let round = 0; round < 2; round++) {
				const { fetched } = await engine.run('iteration', feeds);
				for (const [s, n] of Object.entries(sizes)) {
					const x = feeds[s]!.data;
					const sum = Float32Array.from({ length: n }, (_, i) => Math.fround(x[i]! + x[n + i]!) + x[2 * n + i]!);
					for (let d = 0; d < 3; d++) {
						const found = (fetched.get(s)!.data as Float32Array).subarray(d * n, (d + 1) * n);
						expectClose(found, sum, { rtol: 0, atol: 0, what: `${s} on device ${d}` });
					}
				}
			}
			for (const [i, { data }] of Object.values(feeds).entries()) expectClose(data, before[i]!, { rtol: 0, atol: 0, what: 'feed' });
		} finally {
			await engine.close();
		}
	});

	it('names a bank it does not have', async () => {
		const engine = await createLocalEngine(compile(mixedChain, layout([], 'gpipe', 1, 1), accumulateOnly));
		expect(() => engine.bank(deviceId(0), bankId('stage7'), 'parameter')).toThrow(/device 0, bank stage7/);
		expect(() => engine.bank(deviceId(3), bankId('stage0'), 'parameter')).toThrow(/device 3, bank stage0/);
		expect(() => engine.bank(deviceId(0), bankId('stage0'), { moment: 0 })).toThrow(/device 0, bank stage0/);
		await engine.close();
	});
});

function makeEngineOf(engine: Awaited<ReturnType<typeof createLocalEngine>>): Parameters<typeof writeWeights>[0] {
	return { write: async (device, bank, role, values) => engine.bank(device, bank, role).set(values) };
}
