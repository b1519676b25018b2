/** @file Opens a filled run of the trainer: parts, measurement (or that of the run resumed), devices, feeds. */
import { readJson } from '../../io/json-file.ts';
import type { Chain } from '../../nn/chain.ts';
import { readProfile } from '../../plan/profile/read.ts';
import type { Profile } from '../../plan/profile/types.ts';
import type { TrainConfig } from '../config.ts';
import type { Loader } from '../data/loader.ts';
import type { TrainEvent } from '../events.ts';
import type { FeedMaker } from '../feeds.ts';
import { packagedPath } from '../frozen.ts';
import { filledFeeds, type StepFeeds } from '../frozen-parts.ts';
import { writePlanned } from '../planned.ts';
import type { Candidate } from '../replan.ts';
import type { RunFolder } from '../run-folder.ts';
import type { SessionOptions } from '../session.ts';
import { frozenFeeds, openRunParts, type RunParts } from './parts.ts';
import { compileFilled, measureRun } from './plan.ts';
import { type FilledSession, openFilledSession } from './session.ts';

/** What a filled run is opened for. */
export interface FilledRunOptions {
	readonly chain: Chain;
	readonly config: TrainConfig;
	readonly loader: Loader;
	/** Makes the feeds of training without those that frozen parts give. */
	readonly maker: (given: ReadonlySet<string>) => FeedMaker;
	readonly folder: RunFolder;
	readonly session: Pick<SessionOptions, 'average' | 'seed'>;
	readonly say: (event: TrainEvent) => void;
}

/** A filled run, started. */
export interface FilledRun {
	readonly session: FilledSession;
	readonly feeds: Required<StepFeeds>;
	/** Plans it under another profile; the frozen weights are read again when that is opened. */
	readonly plan: (profile: Profile) => Promise<Candidate>;
}

/**
 * Measures, plans and starts a run with `[frozen] cache = "fill"`. The profile is kept in the run's folder (profile.json, plan.json beside it): a resumed run
 * (one without a seed for first values) plans from it again, so that its program is the same.
 */
export async function openFilledRun(options: FilledRunOptions): Promise<FilledRun> {
	const { chain, config, loader, maker, folder, session: start, say } = options;
	const vae = config.vae.path === '' ? '' : await packagedPath(config.vae.path, 'vae.path');
	const text = config.text_encoder.path === '' ? '' : await packagedPath(config.text_encoder.path, 'text_encoder.path');
	const parts = await openRunParts(vae, text, loader.info, chain.inputs.pooled_projections !== undefined);
	try {
		const profile = (start.seed === undefined && (await knownProfile(folder.profile))) || (await measured(options, parts));
		const filled = compileFilled(config, chain, parts, profile, start.average ? 3 : 2);
		await writePlanned(folder, filled);
		const { plan: chosen } = filled;
		const share = (ratio: number) => `${(100 * ratio).toFixed(1)} %`;
		say({
			kind: 'note',
			text: `filled: ${chosen.iterationMs.toFixed(0)} ms per step predicted, bubbles ${share(chosen.bubbleRatio.unfilled)} before and ${share(chosen.bubbleRatio.filled)} after filling`,
		});
		const session = await openFilledSession(chain, config, parts, filled, start);
		const tokenizer = text === '' ? '' : await packagedPath(config.text_encoder.tokenizer, 'text_encoder.tokenizer');
		const give = await frozenFeeds(parts, tokenizer, config.seed);
		const feeds = filledFeeds(config, loader, vae !== '', maker(new Set(Object.keys(parts.given))), give);
		const plan = async (other: Profile): Promise<Candidate> => {
			const again = compileFilled(config, chain, parts, other, start.average ? 3 : 2);
			const open = async () => {
				const weights = await openRunParts(vae, text, loader.info, chain.inputs.pooled_projections !== undefined);
				try {
					return await openFilledSession(chain, config, weights, again, { average: start.average });
				} finally {
					await weights.close();
				}
			};
			return { planned: again, compiled: again.compiled, open };
		};
		return { session, feeds, plan };
	} finally {
		await parts.close();
	}
}

function measured({ config, chain, session, say }: FilledRunOptions, parts: RunParts): Promise<Profile> {
	const layers = chain.layers.length + parts.parts.reduce((n, part) => n + part.chain.layers.length, 0);
	say({ kind: 'note', text: `measuring ${layers} layers, frozen ones among them, and filling bubbles` });
	return measureRun(config, chain, parts, session.average);
}

/** The profile of an earlier start of the run, if it is there and whole. */
async function knownProfile(path: string): Promise<Profile | undefined> {
	try {
		return readProfile(await readJson(path), path);
	} catch {
		return undefined;
	}
}
