/** @file What `--out` writes: plan, pictures and trace into a folder, or the one that a file's ending names. */
import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { writeWhole } from '../../io/atomic.ts';
import { fileError } from '../../io/file-error.ts';
import { makeFolder } from '../../io/make-folder.ts';
import { kindName, kindsPredicted } from '../../plan/expected.ts';
import { type MemoryStep, memoryOverTime, planStageBytes } from '../../plan/memory.ts';
import { planDocument } from '../../plan/plan-json.ts';
import type { Profile } from '../../plan/profile/types.ts';
import type { SearchResult } from '../../plan/search/types.ts';
import { toChromeTrace } from '../../program/chrome-trace.ts';
import { planPage, planSvg } from '../../program/picture/plan-picture.ts';
import { frozenBefore, pipelineDevices, planTimeline } from '../../program/plan-timeline.ts';
import type { PlanJob } from './job.ts';

/** By ending, the longest first: what writes that file. */
export type Writers<T> = Readonly<Record<string, (value: T) => string>>;

interface Planned extends Pick<PlanJob, 'profile' | 'cluster'> {
	readonly result: SearchResult;
}

/** A value as the text of a JSON file. */
export const json = (value: unknown) => `${JSON.stringify(value, null, 1)}\n`;

const writers: Writers<Planned> = {
	'.trace.json': ({ result, profile }) =>
		`${JSON.stringify(
			toChromeTrace(
				kindsPredicted(result).map((kind) => ({
					name: kind.swept ? `predicted ${kindName(true)}` : 'predicted',
					timeline: planTimeline(kind, profile.frozen),
					...(kind.swept ? {} : { memory: deviceMemory(result, profile) }),
				})),
			),
		)}\n`,
	'.json': ({ result }) => json(planDocument(result.plan)),
	'.svg': ({ result, profile }) => planSvg(result, { frozen: profile.frozen }),
	'.html': ({ result, profile }) => planPage(result, { frozen: profile.frozen }),
};

/** Device by device of the first pipeline. */
function deviceMemory(result: SearchResult, profile: Profile): readonly (readonly MemoryStep[])[] {
	const ranks = memoryOverTime(planStageBytes(result.plan, profile), result.timeline, frozenBefore(result));
	return pipelineDevices(result.plan).map(({ rank }) => ranks[rank]!);
}

/** What a folder holds besides, so that the plan can be walked again from the folder alone. */
const inputs: Writers<Planned> = {
	'profile.json': ({ profile }) => json(profile),
	'cluster.json': ({ cluster }) => json(cluster),
};

/** `outputOf` for what a search answers: files called `plan`. */
export function outputTo(out: string, cwd: string): (result: SearchResult, job: Pick<PlanJob, 'profile' | 'cluster'>) => Promise<string[]> {
	const write = outputOf(out, cwd, { name: 'plan', writers, besides: inputs });
	return (result, { profile, cluster }) => write({ result, profile, cluster });
}

/**
 * Refuses an `--out` that cannot be written, before any work: a usage error for an unknown ending, an input error for a folder that is a file. Files of a
 * folder are called `name` and the ending; those of `besides` have names of their own.
 * @returns what writes the value and returns the paths written, as given
 */
export function outputOf<T>(
	out: string,
	cwd: string,
	{ name, writers: known, besides = {} }: { readonly name: string; readonly writers: Writers<T>; readonly besides?: Writers<T> },
): (value: T) => Promise<string[]> {
	const path = resolve(cwd, out);
	const isFolder = existsSync(path) && statSync(path).isDirectory();
	const ending = isFolder ? undefined : Object.keys(known).find((end) => basename(out).toLowerCase().endsWith(end));
	if (!isFolder && ending === undefined && /\.[a-z]+$/i.test(basename(out))) {
		throw new DiffusionPipeError('usage', 'has an ending that is not known', {
			place: `--out ${out}`,
			expected: `a folder, or a file that ends in ${Object.keys(known).join(', ')}`,
		});
	}
	if (ending === undefined && existsSync(path) && !isFolder) {
		throw new DiffusionPipeError('input', 'is a file, not a folder', { place: `--out ${out}` });
	}
	return async (value) => {
		if (ending !== undefined) {
			await writeWhole(path, known[ending]!(value));
			return [out];
		}
		const files = [
			...Object.entries(known).map(([end, write]) => [`${name}${end}`, write(value)] as const),
			...Object.entries(besides).map(([file, write]) => [file, write(value)] as const),
		];
		try {
			await makeFolder(path);
		} catch (error) {
			throw fileError(out, 'make the folder', error);
		}
		for (const [file, text] of files) await writeWhole(join(path, file), text);
		return files.map(([file]) => join(out, file)).sort();
	};
}
