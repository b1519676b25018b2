/**
 * @file A DiT training step (forward, backward, AdamW) on one core, ours and PyTorch's in turn.
 *
 * One device, one micro-batch, one thread; both sides are pinned to the same core and run one after the other, so that neither takes
 * the other's cache or clock. `of_gemm_peak` compares the step's matrix products with the best product measured between the steps.
 */
import { ditMacs, startDiTTraining } from './lib/dit-training.mjs';
import { openGemm } from './lib/gemm.mjs';
import { benchCore, pin } from './lib/machine.mjs';
import { startPeer } from './lib/peer.mjs';
import { geometricMean, median, significant } from './lib/stats.mjs';

export const title = 'DiT training step on one core against PyTorch eager and compile';

const shapes = [
	{ name: '8 x 256 x 384 x 6 x 6', batch: 8, tokens: 256, width: 384, heads: 6, layers: 6 },
	{ name: '16 x 64 x 256 x 4 x 6', batch: 16, tokens: 64, width: 256, heads: 4, layers: 6 },
];

const products = [
	[512, 512, 512],
	[1024, 1024, 1024],
	[2048, 384, 1536],
];

async function measure(shape, peers, rounds, log) {
	const trainer = await startDiTTraining(shape);
	const gemms = products.map((p) => openGemm(...p));
	const times = { ours: [], eager: [], compile: [] };
	let peak = 0;
	try {
		for (const peer of Object.values(peers)) await peer.ask({ cmd: 'setup', ...shape, name: undefined });
		for (let i = 0; i < 3; i++) await trainer.step();
		for (let round = 0; round < rounds; round++) {
			for (let i = 0; i < 2; i++) {
				const start = performance.now();
				await trainer.step();
				times.ours.push(performance.now() - start);
			}
			for (const gemm of gemms) for (let i = 0; i < 3; i++) peak = Math.max(peak, gemm.once());
			for (const [name, peer] of Object.entries(peers)) times[name].push(...(await peer.ask({ cmd: 'time', repeat: 2 })).ms);
			log(`${shape.name}: round ${round + 1} of ${rounds}`);
		}
	} finally {
		await trainer.close();
		for (const gemm of gemms) gemm.close();
	}
	return { times, peak, gflop: (6 * ditMacs(shape)) / 1e9 };
}

export async function run({ quick, log }) {
	const rounds = quick ? 3 : 9;
	const core = benchCore();
	const pinned = pin([core]);
	log(pinned ? `both sides on core ${core}` : 'taskset is not there: processes are not pinned');
	const peers = {};
	const rows = [];
	try {
		for (const mode of ['eager', 'compile']) {
			peers[mode] = startPeer('train_step.py', ['--mode', mode, '--optimizer', 'best'], { OMP_NUM_THREADS: '1' });
			if (pinned) pin([core], peers[mode].pid);
		}
		for (const shape of shapes) {
			const { times, peak, gflop } = await measure(shape, peers, rounds, log);
			const ours = median(times.ours);
			rows.push({
				shape: shape.name,
				ours_ms: significant(ours),
				eager_ms: significant(median(times.eager)),
				compile_ms: significant(median(times.compile)),
				ours_least_ms: significant(Math.min(...times.ours)),
				eager_least_ms: significant(Math.min(...times.eager)),
				vs_eager: significant(median(times.eager) / ours),
				vs_compile: significant(median(times.compile) / ours),
				gemm_gflops: significant(peak),
				of_gemm_peak: significant(((gflop / ours) * 1000) / peak),
			});
		}
	} finally {
		await Promise.all(Object.values(peers).map((p) => p.close()));
	}
	const mean = (key) => significant(geometricMean(rows.map((r) => r[key])));
	return {
		rows,
		figures: {
			vs_eager: mean('vs_eager'),
			vs_compile: mean('vs_compile'),
			of_gemm_peak: mean('of_gemm_peak'),
			vs_eager_large: rows[0].vs_eager,
			vs_eager_small: rows[1].vs_eager,
		},
	};
}
