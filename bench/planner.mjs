/**
 * @file The planner: exact on small cases, fast on large ones, and what it promises for the jobs of the DiffusionPipe paper on A100 hosts.
 *
 * `optimality_gap_max`: over random jobs (one backbone, up to 8 layers, 4 devices, unequal replicas), the plan's simulated iteration over brute force's, less 1.
 * `sdxl64_seconds`: the whole search, baselines included, for SDXL on 64 devices at batch 2048. `growth`: the most that it grows per doubling of the devices.
 * `claims`: each job under every number of devices, filled against the best pipeline without filling and against data parallel. `--docs` writes that table
 * into docs/planner.md.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { acceleratorByName } from '../dist/plan/analytic/accelerators.js';
import { namedJob } from '../dist/plan/analytic/named-jobs.js';
import { clusterOf, profileOf } from '../dist/plan/analytic/profile.js';
import { frozenMs } from '../dist/plan/search/frozen.js';
import { searchPlan } from '../dist/plan/search/index.js';
import { bruteForceMs, linearCase, profileOfCase } from './lib/planner-cases.mjs';
import { median, significant } from './lib/stats.mjs';

export const title = 'The planner: exact on small cases, seconds on large ones, and the paper’s claims in simulation';

const a100 = acceleratorByName('A100-80');

export async function run({ quick, log, args }) {
	const gap = exactness(quick ? 60 : 300, log);
	const speed = timings(quick, log);
	const claims = [];
	for (const job of paperJobs) {
		for (const hosts of quick ? [1, 8] : [1, 2, 4, 8]) {
			for (const perDevice of quick ? [8] : [8, 32]) {
				log(`${job.name}, ${8 * hosts} devices, ${perDevice} samples each`);
				claims.push(claim(job, hosts, perDevice));
			}
		}
	}
	if (args.includes('--docs')) writeDocs(claims);
	const over = (key) => Math.max(...claims.map((row) => row[key] || 0));
	const suffices = claims.filter((row) => row.frozen_over_trained >= row.bubble_before / (1 - row.bubble_before));
	return {
		rows: claims,
		figures: {
			optimality_gap_max: gap,
			sdxl64_seconds: significant(speed.sdxl64, 3),
			devices1024_seconds: significant(speed.largest, 3),
			growth: significant(speed.growth, 3),
			over_unfilled_max: significant(over('over_unfilled'), 3),
			over_data_parallel_max: significant(over('over_data_parallel'), 3),
			bubble_after_max: significant(Math.max(0, ...suffices.map((row) => row.bubble_after)), 3),
		},
	};
}

/** The largest gap over the random cases. */
function exactness(count, log) {
	let worst = 0;
	for (let seed = 1, done = 0; done < count; seed++) {
		const job = linearCase(seed);
		const best = bruteForceMs(job);
		// No replica count may divide the micro-batch: nothing to plan.
		if (!Number.isFinite(best)) continue;
		done++;
		const { plan } = searchPlan(profileOfCase(job), job.cluster, job.microBatch * job.microBatches, {
			stages: job.stages,
			microBatches: job.microBatches,
			schedule: job.schedule,
			warmup: job.warmup,
			pipelines: 1,
			layout: 'pipelines',
			recompute: false,
			fill: false,
			baselines: false,
		});
		worst = Math.max(worst, plan.iterationMs / best - 1);
	}
	log(`${count} cases against brute force: largest gap ${worst}`);
	// Sums in another order differ in their last bits.
	return worst < 1e-9 ? 0 : worst;
}

function timings(quick, log) {
	const profile = profileOf(namedJob('sdxl'), a100);
	const seconds = (hosts, repeats) => {
		const taken = [];
		for (let i = 0; i < repeats; i++) {
			const start = process.cpuUsage();
			searchPlan(profile, clusterOf(a100, hosts, 8, 400), 256 * hosts, {});
			const { user, system } = process.cpuUsage(start);
			taken.push((user + system) / 1e6);
		}
		log(`search for ${8 * hosts} devices: ${median(taken).toFixed(2)} s of one core`);
		return median(taken);
	};
	seconds(1, 1);
	const hosts = quick ? [4, 8, 16] : [2, 4, 8, 16, 32, 64];
	const all = hosts.map((n) => seconds(n, quick ? 1 : 3));
	const largest = seconds(128, 1);
	const growth = Math.max(...all.slice(1).map((s, i) => s / all[i]));
	return { sdxl64: all[hosts.indexOf(8)], growth, largest };
}

/** The paper trains the first two with self-conditioning; the cascades have no frozen parts. */
const paperJobs = [
	{ name: 'sd21', selfConditioning: 0.5 },
	{ name: 'controlnet', selfConditioning: 0.5 },
	{ name: 'cdm-lsun', selfConditioning: 0 },
	{ name: 'cdm-imagenet', selfConditioning: 0 },
];

function claim({ name, selfConditioning }, hosts, perDevice) {
	const profile = profileOf(namedJob(name), a100, { selfConditioning });
	const cluster = clusterOf(a100, hosts, 8, 400);
	const devices = 8 * hosts;
	const { plan, baselines } = searchPlan(profile, cluster, perDevice * devices, { minStages: 2 });
	const unfilled = baselines.filter((b) => b.name.endsWith('not filled')).reduce((a, b) => (a.iterationMs <= b.iterationMs ? a : b));
	const parallel = baselines.find((b) => b.name === 'data parallel');
	// Device time of the frozen work over that of the trained, and of the bubbles, per device.
	const busyMs = plan.pipelineMs * (1 - plan.bubbleRatio.unfilled);
	const rho = frozenMs(profile, perDevice) / busyMs;
	const beta = plan.bubbleRatio.unfilled / (1 - plan.bubbleRatio.unfilled);
	return {
		job: name,
		devices,
		batch: perDevice * devices,
		plan: `${plan.schedule}, ${plan.stages.length} stages x ${plan.pipelines}, ${plan.microBatches} micro-batches`,
		iteration_ms: significant(plan.iterationMs, 4),
		over_unfilled: Number.isFinite(unfilled.iterationMs) ? significant(unfilled.iterationMs / plan.iterationMs, 3) : '',
		ideal: significant((1 + beta + rho) / Math.max(1 + beta, 1 + rho), 3),
		over_data_parallel: Number.isFinite(parallel.iterationMs) ? significant(parallel.iterationMs / plan.iterationMs, 3) : '',
		frozen_over_trained: significant(rho, 2),
		bubble_before: significant(plan.bubbleRatio.unfilled, 2),
		bubble_after: significant(plan.bubbleRatio.filled, 2),
	};
}

const docs = new URL('../docs/planner.md', import.meta.url);
const marks = ['<!-- claims: npm run bench -- planner --docs -->', '<!-- /claims -->'];

function writeDocs(claims) {
	const text = readFileSync(docs, 'utf8');
	const [start, end] = marks.map((mark) => text.indexOf(mark));
	if (start < 0 || end < start) throw new Error(`docs/planner.md has no place for the table: ${marks.join(' ... ')}`);
	const head = [
		'job',
		'devices',
		'batch',
		'plan',
		'ms',
		'over unfilled pipeline',
		'ideal',
		'over data parallel',
		'bubbles before',
		'after',
	];
	const keys = [
		'job',
		'devices',
		'batch',
		'plan',
		'iteration_ms',
		'over_unfilled',
		'ideal',
		'over_data_parallel',
		'bubble_before',
		'bubble_after',
	];
	const lines = [head, head.map(() => '---'), ...claims.map((row) => keys.map((key) => row[key]))].map(
		(cells) => `| ${cells.join(' | ')} |`,
	);
	writeFileSync(docs, `${text.slice(0, start)}${marks[0]}\n${lines.join('\n')}\n${text.slice(end)}`);
}
