/** @file Opens a filled run of the trainer: parts, measurement (or that of the run resumed), devices, feeds; in runs of several sizes for each. */
import { writeWhole } from '../../io/atomic.ts';
import { stepText } from '../../plan/expected.ts';
import type { Profile } from '../../plan/profile/types.ts';
import { formatProgram } from '../../program/text.ts';
import type { SizedParts } from '../buckets.ts';
import type { TrainConfig } from '../config.ts';
import type { LockedUNet } from '../controlnet/types.ts';
import { sizeKey, stepsOfBuckets } from '../data/buckets.ts';
import type { Loader } from '../data/loader.ts';
import type { TrainEvent } from '../events.ts';
import { packagedPath } from '../frozen.ts';
import { filledFeeds, type SizedFeeds, type StepFeeds } from '../frozen-parts.ts';
import { knownProfile, writePlanned } from '../planned.ts';
import type { Candidate } from '../replan.ts';
import { type RunFolder, sizeFolder } from '../run-folder.ts';
import type { SessionOptions, TrainingSession } from '../session.ts';
import { frozenStore } from './frozen-store.ts';
import { frozenFeeds } from './parts.ts';
import { compileFilled, type FilledPlan, measureRun, profiledSizes } from './plan.ts';
import { type FilledParts, type FilledSize, sharing, withRunParts } from './run-parts.ts';
import { type FilledSession, openFilledSession } from './session.ts';
import { filledSizesSession } from './sizes.ts';

/** What a filled run is opened for. */
export interface FilledRunOptions extends Pick<SizedParts, 'chain' | 'control'> {
	/** The U-Net of a ControlNet. */
	readonly locked?: LockedUNet | undefined;
	readonly config: TrainConfig;
	readonly loader: Loader;
	/** Makes the feeds of training without those that frozen parts give. */
	readonly maker: SizedParts['maker'];
	/** The other sizes of images, by `sizeKey`. */
	readonly bySize?: ReadonlyMap<string, Pick<SizedParts, 'chain' | 'control' | 'maker'>> | undefined;
	readonly folder: RunFolder;
	/** With a store of memory where there are several sizes. */
	readonly session: Pick<SessionOptions, 'average' | 'seed' | 'store' | 'selfConditioning'>;
	/** Steps that the run has done. */
	readonly firstStep: number;
	/** The session of a size as one that may be planned again, of which so many steps are done. */
	readonly replanned: (
		session: FilledSession,
		plan: (profile: Profile) => Promise<Candidate>,
		at: { folder: RunFolder; firstStep: number; size?: string | undefined },
	) => TrainingSession;
	readonly say: (event: TrainEvent) => void;
}

/** A filled run, started. */
export interface FilledRun {
	readonly session: TrainingSession;
	readonly feeds: Required<StepFeeds>;
}

/** Images of one size. */
interface Size extends FilledSize, Pick<SizedParts, 'maker'> {
	readonly key: string;
	readonly folder: RunFolder;
	/** Steps done on it. */
	readonly steps: number;
}

/**
 * Measures, plans and starts a run with `[frozen] cache = "fill"`. The profile is kept in the run's folder (profile.json, plan.json beside it): a resumed run
 * (one without a seed for first values) plans from it again, so that its program is the same. Sizes after the first are measured and started when they
 * first come up; they are cut as the first is, since the weights are the same memory.
 */
export async function openFilledRun(options: FilledRunOptions): Promise<FilledRun> {
	const { config, loader, session: start, say } = options;
	const tokenizer = config.text_encoder.path === '' ? '' : await packagedPath(config.text_encoder.tokenizer, 'text_encoder.tokenizer');
	const sizes = sizesOf(options);
	const shared = start.store ? { store: start.store, frozen: frozenStore() } : undefined;
	const moments = start.average ? 3 : 2;

	const withParts = <T>(size: Size, use: (parts: FilledParts) => Promise<T>) => withRunParts(config, options.locked, size, use);
	const compiled = async (parts: FilledParts, profile: Profile, cuts?: readonly number[]): Promise<FilledPlan> => {
		const filled = compileFilled(config, parts.chain, parts, profile, moments, { cuts, selfConditioning: start.selfConditioning });
		return shared ? sharing(filled, parts, shared.frozen) : filled;
	};
	const candidate = (size: Size, cuts: readonly number[] | undefined, profile: Profile) =>
		withParts(size, async (parts): Promise<Candidate> => {
			const filled = await compiled(parts, profile, cuts);
			const open = () => withParts(size, (own) => openFilledSession(own.chain, config, own, filled, { average: start.average, ...shared }));
			return { planned: filled, compiled: filled.compiled, open };
		});
	const opened = (size: Size, cuts?: readonly number[]) =>
		withParts(size, async (parts): Promise<TrainingSession> => {
			const { folder } = size;
			const { chain } = parts;
			const known = start.seed === undefined ? await knownProfile(folder.profile, chain, profiledSizes(config), parts.parts) : undefined;
			const filled = await compiled(parts, known ?? (await measured(options, parts)), cuts);
			await writePlanned(folder, filled);
			say({ kind: 'note', text: predicted(filled, shared && size) });
			// Later sizes find values in the memory they share.
			const first = size === sizes[0] && start.seed !== undefined ? { seed: start.seed } : {};
			const session = await openFilledSession(chain, config, parts, filled, { ...first, average: start.average, ...shared });
			// Where weights are shared every size keeps the cuts: what changes is what fills the bubbles.
			const kept = shared && session.plan.cuts;
			const at = { folder, firstStep: size.steps, size: shared && size.key };
			return options.replanned(session, (profile) => candidate(size, kept, profile), at);
		});

	const feeds = new Map<string, SizedFeeds>();
	for (const size of sizes) {
		await withParts(size, async (parts) => {
			const make = size.maker(new Set(Object.keys(parts.given)));
			feeds.set(size.key, { make, give: await frozenFeeds(parts, tokenizer, config.seed), early: parts.early });
		});
	}
	const made = filledFeeds(config, loader, config.vae.path !== '', feeds);
	const [first, ...others] = sizes;
	const base = await opened(first!);
	if (!shared) return { session: base, feeds: made };
	const open = async (key: string): Promise<TrainingSession> => {
		const size = others.find((each) => each.key === key)!;
		const session = await opened(size, base.plan.cuts);
		const { compiled: program, stages } = session.plan;
		const text = formatProgram(program.program);
		await writeWhole(size.folder.programs, text);
		say({ kind: 'plan', devices: program.program.devices.length, stages, text, size: key });
		return session;
	};
	return { session: filledSizesSession(base, { first: first!.key, sizeOf: made.sizeOf, open }), feeds: made };
}

/** The sizes of a run's images, the first of the data first. */
function sizesOf({ chain, control, config, loader, maker, bySize = new Map(), folder, firstStep }: FilledRunOptions): Size[] {
	const { buckets, bucketRunLength, height, width } = loader.info;
	const first = { key: sizeKey({ height, width }), pixels: { height, width }, chain, control, maker, folder };
	if (!buckets) return [{ ...first, steps: firstStep }];
	const order = { buckets, seed: config.seed, batchSize: config.train.batch_size, runLength: bucketRunLength };
	const counts = stepsOfBuckets(order, firstStep);
	const stepsAt = (key: string) => counts[buckets.findIndex((size) => sizeKey(size) === key)] ?? 0;
	const others = buckets.flatMap((pixels) => {
		const [key, parts] = [sizeKey(pixels), bySize.get(sizeKey(pixels))];
		return parts ? [{ ...parts, key, pixels, folder: sizeFolder(folder, key) }] : [];
	});
	return [first, ...others].map((size) => ({ ...size, steps: stepsAt(size.key) }));
}

function measured({ config, session, say }: FilledRunOptions, { chain, ...parts }: FilledParts): Promise<Profile> {
	const layers = chain.layers.length + parts.parts.reduce((n, part) => n + part.chain.layers.length, 0);
	say({ kind: 'note', text: `measuring ${layers} layers, frozen ones among them, and filling bubbles` });
	return measureRun(config, chain, parts, session.average);
}

/** What a plan promises, for people. */
function predicted({ plan }: FilledPlan, size: Size | undefined): string {
	const share = (ratio: number) => `${(100 * ratio).toFixed(1)} %`;
	const { unfilled, filled } = plan.bubbleRatio;
	return `filled${size ? ` for images of ${size.key}` : ''}: ${stepText(plan)} predicted, bubbles ${share(unfilled)} before and ${share(filled)} after filling`;
}
