package stemforge.app;

import android.content.Context;
import android.media.MediaCodec;
import android.media.MediaCodecInfo;
import android.media.MediaFormat;
import android.media.MediaMuxer;
import android.os.ParcelFileDescriptor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** AAC in an M4A file, encoded by the phone. */
final class M4aSink implements Sink {
  static final int BIT_RATE = 192_000; // what `stemforge separate` takes

  private static final long WAIT_US = 10_000;
  private static final int MOST_WAITS = 1000; // ten seconds: the encoder hangs

  private final Context context;
  private final ParcelFileDescriptor file;
  private final MediaCodec codec;
  private final MediaMuxer muxer;
  private final MediaCodec.BufferInfo info = new MediaCodec.BufferInfo();
  private int track = -1;
  private long samples;

  M4aSink(Context context, ParcelFileDescriptor file) throws IOException {
    this.context = context;
    this.file = file;
    MediaFormat format =
        MediaFormat.createAudioFormat(MediaFormat.MIMETYPE_AUDIO_AAC, RATE_HZ, CHANNELS);
    format.setInteger(MediaFormat.KEY_AAC_PROFILE, MediaCodecInfo.CodecProfileLevel.AACObjectLC);
    format.setInteger(MediaFormat.KEY_BIT_RATE, BIT_RATE);
    MediaMuxer muxing = null;
    MediaCodec made = null;
    try {
      muxing =
          new MediaMuxer(file.getFileDescriptor(), MediaMuxer.OutputFormat.MUXER_OUTPUT_MPEG_4);
      made = MediaCodec.createEncoderByType(MediaFormat.MIMETYPE_AUDIO_AAC);
      made.configure(format, null, null, MediaCodec.CONFIGURE_FLAG_ENCODE);
      made.start();
    } catch (IOException | IllegalArgumentException | IllegalStateException error) {
      file.close();
      if (muxing != null) {
        muxing.release();
      }
      if (made != null) {
        made.release();
      }
      throw new Failure(context, R.string.no_encoder);
    }
    muxer = muxing;
    codec = made;
  }

  @Override
  public void write(float[] block) throws IOException {
    try {
      for (int from = 0; from < block.length; ) {
        int index = waitForInput();
        ByteBuffer buffer = codec.getInputBuffer(index).order(ByteOrder.LITTLE_ENDIAN);
        int room = buffer.remaining() / (2 * CHANNELS) * CHANNELS;
        int to = Math.min(block.length, from + room);
        Pcm.put16(block, from, to, buffer);
        codec.queueInputBuffer(index, 0, 2 * (to - from), timeUs(), 0);
        samples += (to - from) / CHANNELS;
        from = to;
        drain(0);
      }
    } catch (IllegalStateException error) {
      throw new Failure(context, R.string.encoder_failed);
    }
  }

  @Override
  public void finish() throws IOException {
    try {
      int index = waitForInput();
      codec.queueInputBuffer(index, 0, 0, timeUs(), MediaCodec.BUFFER_FLAG_END_OF_STREAM);
      for (int waits = 0; !drain(WAIT_US); waits++) {
        if (waits == MOST_WAITS) {
          throw new Failure(context, R.string.encoder_failed);
        }
      }
      muxer.stop();
    } catch (IllegalStateException error) {
      throw new Failure(context, R.string.encoder_failed);
    }
  }

  @Override
  public void close() throws IOException {
    codec.release();
    try {
      muxer.release();
    } catch (IllegalStateException unfinished) {
      // It is released all the same. Nobody keeps a file that could not be finished.
    } finally {
      file.close();
    }
  }

  private long timeUs() {
    return samples * 1_000_000 / RATE_HZ;
  }

  private int waitForInput() throws IOException {
    for (int waits = 0; waits < MOST_WAITS; waits++) {
      int index = codec.dequeueInputBuffer(0);
      if (index >= 0) {
        return index;
      }
      drain(WAIT_US); // it takes more once it has given some
    }
    throw new Failure(context, R.string.encoder_failed);
  }

  /** Moves what is encoded into the file; true once that was the last of it. */
  private boolean drain(long waitUs) {
    while (true) {
      int index = codec.dequeueOutputBuffer(info, waitUs);
      if (index == MediaCodec.INFO_TRY_AGAIN_LATER) {
        return false;
      }
      if (index == MediaCodec.INFO_OUTPUT_FORMAT_CHANGED) {
        track = muxer.addTrack(codec.getOutputFormat());
        muxer.start();
      } else if (index >= 0) {
        boolean settings = (info.flags & MediaCodec.BUFFER_FLAG_CODEC_CONFIG) != 0; // in the track
        if (info.size > 0 && !settings) {
          muxer.writeSampleData(track, codec.getOutputBuffer(index), info);
        }
        codec.releaseOutputBuffer(index, false);
        if ((info.flags & MediaCodec.BUFFER_FLAG_END_OF_STREAM) != 0) {
          return true;
        }
      }
    }
  }
}
