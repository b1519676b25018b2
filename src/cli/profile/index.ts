/** @file From a name on the command line to a profile, and a profile as lines for people. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { measureProfile } from '../../engine/local/profile.ts';
import { acceleratorByName } from '../../plan/analytic/accelerators.ts';
import { type JobChains, jobWork } from '../../plan/analytic/chain-work.ts';
import { jobChains } from '../../plan/analytic/jobs/index.ts';
import { type JobName, namedJob, namedJobs } from '../../plan/analytic/named-jobs.ts';
import type { Precision } from '../../plan/analytic/precision.ts';
import { profileOf } from '../../plan/analytic/profile.ts';
import type { Profile } from '../../plan/profile/types.ts';
import { cascadeJob } from '../../train/cascade/job.ts';
import type { TrainConfig } from '../../train/config.ts';
import { trainingJob } from '../../train/job-chains.ts';
import { recomputeOf } from '../../train/recompute.ts';
import { loadTraining } from '../config-file.ts';
import { formatBytes, formatTable, plural } from '../format.ts';

/** Where a job comes from: a published one, a preset, or a config file relative to `cwd` with keys set. */
export interface JobSource {
	readonly name: string;
	readonly sets: readonly string[];
	readonly cwd: string;
}

/** The profile of a job on a named accelerator. Throws usage and config errors for names that are not known. */
export async function computedProfile(
	source: JobSource,
	accelerator: string,
	options: { readonly batchSizes?: readonly number[]; readonly precision: Precision },
): Promise<Profile> {
	const chosen = acceleratorByName(accelerator);
	if (isNamed(source)) return profileOf(namedJob(source.name), chosen, options);
	const { job, config } = await configured(source);
	return profileOf(jobWork(job), chosen, { ...options, selfConditioning: config.objective.self_conditioning });
}

export interface MeasuringOptions {
	readonly batchSizes?: readonly number[];
	readonly repeats?: number;
	/** Hears what is being measured. */
	readonly note: (line: string) => void;
}

/** The profile of a job on this machine, with the threads that its config gives a device. */
export async function measuredProfile(source: JobSource, { note, ...options }: MeasuringOptions): Promise<Profile> {
	const { job, config } = isNamed(source) ? { job: jobChains[source.name](), config: undefined } : await configured(source);
	const batch = config?.train.batch_size ?? Number.POSITIVE_INFINITY;
	const measured = await measureProfile(job, {
		batchSizes: [1, 2, 4, 8].filter((n) => n <= batch),
		threads: config?.parallel.threads_per_device ?? 1,
		recompute: config ? recomputeOf(config) : 'views',
		average: (config?.train.ema_decay ?? 0) > 0,
		selfConditioning: config?.objective.self_conditioning ?? 0,
		onProgress: (what, done, total) => {
			if (done === total) note(`measured ${what}: ${plural(total, 'graph')}`);
		},
		...options,
	});
	return { ...measured, name: `${job.name} measured` };
}

/** A published job, unless a config of that name is meant: those have keys to set. */
function isNamed(source: JobSource): source is JobSource & { readonly name: JobName } {
	return Object.hasOwn(namedJobs, source.name) && source.sets.length === 0;
}

async function configured({ name, sets, cwd }: JobSource): Promise<{ readonly job: JobChains; readonly config: TrainConfig }> {
	const near = nearestName(name, Object.keys(namedJobs));
	const { config, cascade } = await loadTraining(name, sets, cwd).catch((error: unknown) => {
		// A published job was meant rather than a preset.
		if (near === undefined || near === name || !(error instanceof DiffusionPipeError) || error.parts.place !== name) throw error;
		throw new DiffusionPipeError(error.kind, error.what, { ...error.parts, hint: `did you mean ${near}?` });
	});
	return { job: cascade ? await cascadeJob(cascade, name) : await trainingJob(config, name), config };
}

/** Times at the largest batch and bytes, a line per layer, and what stands in what relation. */
export function profileLines(profile: Profile): string[] {
	const { name, batchSizes, backbones, frozen } = profile;
	const last = batchSizes.length - 1;
	const ms = (times: readonly number[]) => times[last]!.toFixed(2);
	const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
	const head = ['forward', 'for inputs', 'for weights', 'sent', 'saved', 'weights'];
	const trained = backbones.flatMap(({ layers }) => layers);
	const trainedMs = sum(trained.flatMap((l) => [l.forwardMs[last]!, l.backwardInputMs[last]!, l.backwardWeightMs[last]!]));
	const frozenMs = sum(frozen.flatMap((f) => f.layers.map((l) => l.forwardMs[last]!)));
	const updateMs = sum(trained.map((l) => l.updateMs ?? 0));
	const rows = [
		...backbones.flatMap((b) => [
			[b.name, ...head],
			...b.layers.map((l) => [
				`  ${l.name}`,
				ms(l.forwardMs),
				ms(l.backwardInputMs),
				ms(l.backwardWeightMs),
				formatBytes(l.cutBytes),
				formatBytes(l.activationBytes),
				formatBytes(l.paramBytes),
			]),
		]),
		...frozen.flatMap((f) => [
			[`${f.name} (frozen)`, 'forward', '', '', 'handed on', '', 'weights'],
			...f.layers.map((l) => [`  ${l.name}`, ms(l.forwardMs), '', '', formatBytes(l.outputBytes), '', formatBytes(l.paramBytes)]),
		]),
	];
	const batch = batchSizes[last]!;
	const share = frozenMs > 0 ? `, frozen ${frozenMs.toFixed(1)} ms (${((100 * frozenMs) / trainedMs).toFixed(0)} % of that)` : '';
	return [
		`${name}: ms at ${plural(batch, 'sample')}, bytes sent and saved per sample`,
		...formatTable(rows, [1, 2, 3, 4, 5, 6]),
		`trained: ${trainedMs.toFixed(1)} ms forward and backward, ${updateMs.toFixed(1)} ms for the optimiser${share}`,
	];
}
