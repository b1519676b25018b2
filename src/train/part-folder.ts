/** @file Which folder of a model is meant by a folder that a config names. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { runFolder } from './run-folder.ts';

/**
 * The folder of one of `parts` (as `unet`) that `folder` means: a part of the pipeline it is, or of the finished pipeline of the run it is; otherwise
 * `folder` itself.
 */
export async function partFolder(folder: string, parts: readonly string[]): Promise<string> {
	const inside = parts.flatMap((part) => [join(folder, part), join(runFolder(folder).pipeline, part)]);
	for (const candidate of inside) if (await exists(join(candidate, 'config.json'))) return candidate;
	return folder;
}

/** True when there is something at `path`. */
export function exists(path: string): Promise<boolean> {
	return access(path).then(
		() => true,
		() => false,
	);
}
