/** @file The local engine runs what every engine runs, and tells what it did when. */
import { describe, expect, it } from 'vitest';
import { createLocalEngine } from '../../../src/engine/local/engine.ts';
import { formatAction } from '../../../src/plan/schedules/text.ts';
import { bankId, deviceId } from '../../../src/program/types.ts';
import { chainFeeds, crossingChains, mixedChain } from '../chains.ts';
import { seededWeights } from '../reference.ts';
import { compile, engineSuite, layout, type MakeEngine, writeWeights } from '../suite.ts';

/** A local engine behind the suite's interface. */
const makeLocalEngine: MakeEngine = async (compiled, update) => {
	const engine = await createLocalEngine(compiled, update ? { update } : {});
	return {
		run: async (section, feeds) => (await engine.run(section, feeds)).fetched,
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
