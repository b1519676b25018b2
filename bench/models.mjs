/**
 * @file Forward, and forward and backward, of every model kind on one core, ours and PyTorch's in turn.
 *
 * One device, one thread, one batch; both sides are pinned to the same core and run one after the other. PyTorch's models are checked against the
 * reference outputs and gradients first. `npm run bench -- models NAME...` runs only those rows. The ratios `_cpu` are of processor time, which
 * others on the machine disturb less than the clock's.
 */
import { benchCore, pin } from './lib/machine.mjs';
import { cases, configOf, fixtureFolder } from './lib/model-cases.mjs';
import { openModel } from './lib/model-run.mjs';
import { startPeer } from './lib/peer.mjs';
import { geometricMean, median, significant } from './lib/stats.mjs';

export const title = 'Forward and backward of every model kind on one core against PyTorch eager';

/** Most that PyTorch's outputs and gradients may differ from the reference numbers, relative. */
const tolerance = 1e-3;

async function check(peer, chosen, log) {
	const folders = new Set(chosen.map((c) => c.fixture));
	for (const model of folders) {
		const { worst, tensors } = await peer.ask({ cmd: 'check', model, folder: fixtureFolder(model) });
		if (!(worst < tolerance)) throw new Error(`${model} in PyTorch differs from the reference numbers by ${worst}`);
		log(`${model}: PyTorch agrees with ${tensors} reference tensors within ${worst.toExponential(1)}`);
	}
}

async function measure(entry, peer, rounds) {
	const config = configOf(entry);
	const ours = await openModel(entry.chain(config), entry);
	const times = { forward: [[], []], both: [[], []] };
	try {
		const { outputs, inputs } = ours;
		const { parameters } = await peer.ask({ cmd: 'setup', model: entry.name, config, outputs, inputs });
		if (parameters !== ours.both.parameters) {
			throw new Error(`${entry.name}: PyTorch has ${parameters} numbers in parameters, ours ${ours.both.parameters}`);
		}
		for (const what of ['forward', 'both']) {
			for (let round = -1; round < rounds; round++) {
				const pair = [await ours[what].time(), await peer.ask({ cmd: 'time', what })];
				// The first round allocates.
				for (const side of round < 0 ? [] : [0, 1]) times[what][side].push(pair[side]);
			}
		}
		return { times, parameters };
	} finally {
		await Promise.all([ours.forward.close(), ours.both.close()]);
	}
}

/** Medians of one side's times: of `forward` and `both` by the clock, and with `_cpu` of the processor. */
function summary(times, side) {
	const of = (what, key) => median(times[what][side].map((t) => t[key]));
	const kinds = ['forward', 'both'];
	return Object.fromEntries(
		kinds.flatMap((k) => [
			[k, of(k, 'ms')],
			[`${k}_cpu`, of(k, 'cpu_ms')],
		]),
	);
}

export async function run({ quick, log, args }) {
	const rounds = quick ? 3 : 9;
	const chosen = args.length > 0 ? cases.filter((c) => args.includes(c.name)) : cases;
	if (chosen.length === 0) throw new Error(`expected names among ${cases.map((c) => c.name).join(', ')}; found ${args.join(' ')}`);
	const core = benchCore();
	const pinned = pin([core]);
	log(pinned ? `both sides on core ${core}` : 'taskset is not there: processes are not pinned');
	const peer = startPeer('model_times.py', [], { OMP_NUM_THREADS: '1' });
	if (pinned) pin([core], peer.pid);
	const rows = [];
	try {
		await check(peer, chosen, log);
		for (const entry of chosen) {
			const { times, parameters } = await measure(entry, peer, rounds);
			const [ours, eager] = [0, 1].map((side) => summary(times, side));
			const ratio = (key) => significant(eager[key] / ours[key]);
			rows.push({
				model: entry.name,
				batch: entry.batch,
				parameters_m: significant(parameters / 1e6, 3),
				ours_forward_ms: significant(ours.forward),
				eager_forward_ms: significant(eager.forward),
				ours_ms: significant(ours.both),
				eager_ms: significant(eager.both),
				forward_vs_eager: ratio('forward'),
				forward_cpu: ratio('forward_cpu'),
				vs_eager: ratio('both'),
				vs_eager_cpu: ratio('both_cpu'),
			});
			log(`${entry.name}: ${JSON.stringify(rows.at(-1))}`);
		}
	} finally {
		await peer.close();
	}
	const ratios = (key) => rows.map((r) => r[key]);
	return {
		rows,
		figures: {
			vs_eager_geomean: significant(geometricMean(ratios('vs_eager'))),
			vs_eager_min: Math.min(...ratios('vs_eager')),
			forward_vs_eager_geomean: significant(geometricMean(ratios('forward_vs_eager'))),
			forward_vs_eager_min: Math.min(...ratios('forward_vs_eager')),
			vs_eager_cpu_geomean: significant(geometricMean(ratios('vs_eager_cpu'))),
			vs_eager_cpu_min: Math.min(...ratios('vs_eager_cpu')),
		},
	};
}
