/** @file Checks of the folder runs are written to, and of the disk it is on. */
import { mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError } from '../../io/file-error.ts';
import type { Context } from '../command.ts';
import { formatBytes } from '../format.ts';
import type { Finding } from './index.ts';

/** Writes a file into a folder of its own and removes both. */
export async function checkFolder({ cwd }: Context): Promise<Finding> {
	try {
		const folder = await mkdtemp(join(cwd, '.diffusionpipe-'));
		try {
			await writeFile(join(folder, 'test'), 'written');
		} finally {
			await rm(folder, { recursive: true, force: true });
		}
	} catch (error) {
		throw fileError(cwd, 'write', error);
	}
	return { status: 'ok', text: `${cwd} can be written`, values: { path: cwd } };
}

/** A run with a few checkpoints of a small model takes less. */
const littleSpace = 1e9;

/** Free space where the command runs. */
export async function checkDisk({ cwd }: Context): Promise<Finding> {
	const { bavail, bsize } = await statfs(cwd);
	const free = bavail * bsize;
	return {
		status: free < littleSpace ? 'warn' : 'ok',
		text: `${formatBytes(free)} free`,
		...(free < littleSpace ? { hint: 'free some space, or give --output-dir on another disk' } : {}),
		values: { freeBytes: free },
	};
}
