/** @file Writes TensorBoard event files: scalars and images by step. */
import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { type EventContent, type EventImage, encodeEvent, frameRecord, type SummaryValue } from './event-record.ts';
import { errorCode, fileError } from './file-error.ts';

/** How to open an event file. */
export interface EventWriterOptions {
	/** Milliseconds since 1970. Default Date.now. */
	readonly now?: () => number;
	/** Part of the file name. Default the name of this machine. */
	readonly host?: string;
	/** When a run resumes: TensorBoard then forgets what earlier files of the folder say of this step and later ones. */
	readonly resumeFrom?: number;
}

/**
 * Writes one event file into a run's folder. Every record goes out in one write at the end of a file that is never rewritten, so a crash can
 * tear the last record at most. A resumed run opens a new file; TensorBoard joins all files of a folder.
 */
export class EventWriter {
	readonly path: string;
	readonly #now: () => number;
	#fd: number | undefined;

	/** Makes `folder` when missing and starts a new file `events.out.tfevents.<seconds>.<host>` in it. */
	constructor(folder: string, options: EventWriterOptions = {}) {
		const { now = Date.now, host = hostname(), resumeFrom } = options;
		this.#now = now;
		try {
			mkdirSync(folder, { recursive: true });
			const seconds = String(Math.floor(now() / 1000)).padStart(10, '0');
			[this.path, this.#fd] = openNew(join(folder, `events.out.tfevents.${seconds}.${host.replace(/[^\w.-]/g, '_') || 'localhost'}`));
		} catch (error) {
			throw fileError(folder, 'start an event file', error);
		}
		this.#write(resumeFrom ?? 0, { fileVersion: 'brain.Event:2' });
		if (resumeFrom !== undefined) this.#write(resumeFrom, { restart: true });
	}

	/** Writes numbers by tag (as `train/loss`), all of one step, as one record. */
	scalars(step: number, values: Readonly<Record<string, number>>): void {
		const summary: SummaryValue[] = Object.entries(values).map(([tag, scalar]) => ({ tag, scalar }));
		if (summary.length > 0) this.#write(step, { summary });
	}

	/** Writes one number. */
	scalar(tag: string, value: number, step: number): void {
		this.scalars(step, { [tag]: value });
	}

	/** Writes a PNG under `tag`. */
	image(tag: string, image: EventImage, step: number): void {
		this.#write(step, { summary: [{ tag, image }] });
	}

	/** Waits until all that was written is on the disk. */
	flush(): void {
		if (this.#fd === undefined) return;
		try {
			fsyncSync(this.#fd);
		} catch (error) {
			throw fileError(this.path, 'flush', error);
		}
	}

	/** Flushes and closes; closing twice does nothing. */
	close(): void {
		if (this.#fd === undefined) return;
		this.flush();
		closeSync(this.#fd);
		this.#fd = undefined;
	}

	#write(step: number, content: EventContent): void {
		if (this.#fd === undefined) throw new DiffusionPipeError('internal', 'written after it was closed', { place: this.path });
		if (!Number.isSafeInteger(step) || step < 0) {
			throw new DiffusionPipeError('internal', 'a step must be a whole number', {
				place: this.path,
				expected: '0 or more',
				found: String(step),
			});
		}
		const record = frameRecord(encodeEvent(this.#now() / 1000, step, content));
		try {
			for (let at = 0; at < record.length; ) at += writeSync(this.#fd, record, at);
		} catch (error) {
			throw fileError(this.path, 'write', error);
		}
	}
}

/** Opens a file that was not there, numbering it when another run of this second took the name. */
function openNew(path: string): [path: string, fd: number] {
	for (let i = 0; ; i++) {
		const name = i === 0 ? path : `${path}.${i}`;
		try {
			return [name, openSync(name, 'ax')];
		} catch (error) {
			if (errorCode(error) !== 'EEXIST') throw error;
		}
	}
}
