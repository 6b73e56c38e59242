package stemforge.app;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import android.content.ContentValues;
import android.content.Context;
import android.net.Uri;
import android.provider.MediaStore;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.annotation.Config;

/**
 * From a document to files in Music, with the app's own nets.
 *
 * <p>With -Dstemforge.out=FOLDER the song and its stems are kept there, to be compared.
 */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 35, shadows = {Phone.Extractor.class, Phone.Codec.class})
public final class JobTest {
  private final Context context = RuntimeEnvironment.getApplication();
  private final List<Progress> told = new ArrayList<>();
  private final List<String> stems = Assets.models(context).get(0).stems;
  private Phone.Music music;
  private SeparationJob job;

  @Before
  public void installPhone() {
    Phone.install();
    music = Phone.installMusic();
  }

  private Progress run(Uri uri, StemFormat format) {
    Model model = Assets.models(context).get(0);
    job =
        new SeparationJob(
            context,
            uri,
            "Song: 1/2",
            model,
            format,
            now -> {
              told.add(now);
              if (told.size() == 2 && uri.getLastPathSegment().startsWith("cancelled")) {
                job.cancel();
              }
            });
    job.run();
    return told.get(told.size() - 1);
  }

  private Progress run(String name, String mime, StemFormat format) {
    return run(Phone.document(name, mime, Phone.song()), format);
  }

  private void assertFails(Progress end, String message) {
    assertEquals(Progress.State.FAILED, end.state);
    assertTrue(end.message, end.message.contains(message));
    assertTrue(music.rows.isEmpty());
  }

  @Test
  public void writesWavFiles() throws IOException {
    Progress end = run("Song.mp3", Phone.MIME, StemFormat.WAV);
    assertEquals(end.message, Progress.State.DONE, end.state);
    assertEquals(stems.size(), music.rows.size());
    String out = System.getProperty("stemforge.out");
    for (int n = 0; n < stems.size(); n++) {
      ContentValues row = music.rows.get(n + 1L);
      assertEquals(0, (int) row.getAsInteger(MediaStore.MediaColumns.IS_PENDING));
      assertEquals("Song_ 1_2 - " + stems.get(n) + ".wav", row.getAsString("_display_name"));
      assertEquals("Music/stemforge/", row.getAsString("relative_path"));
      assertEquals(stems.get(n), end.stems.get(n).name);
      byte[] file = music.read(n + 1L);
      assertEquals(44 + 4 * Phone.SAMPLES, file.length);
      if (out != null) {
        Files.write(Paths.get(out, stems.get(n) + ".wav"), file);
      }
    }
    if (out != null) {
      Files.write(Paths.get(out, "song.s16"), Phone.song());
    }
    int percent = 0;
    for (Progress now : told) {
      assertTrue(now.percent >= percent);
      percent = now.percent;
    }
    assertEquals(100, percent);
    assertTrue(told.size() > 20);
  }

  /** The encoder copies here: an M4A then holds the WAV's samples. */
  @Test
  public void writesM4aFiles() throws IOException {
    run("Song.mp3", Phone.MIME, StemFormat.WAV);
    Progress end = run("Song.mp3", Phone.MIME, StemFormat.M4A);
    assertEquals(end.message, Progress.State.DONE, end.state);
    for (long n = 1; n <= stems.size(); n++) {
      byte[] wav = music.read(n);
      long m4a = n + stems.size();
      assertEquals("audio/mp4", music.rows.get(m4a).getAsString("mime_type"));
      assertArrayEquals(Arrays.copyOfRange(wav, 44, wav.length), music.read(m4a));
    }
  }

  @Test
  public void leavesNothingWhenCancelled() {
    assertEquals(
        Progress.State.IDLE, run("cancelled.mp3", Phone.MIME, StemFormat.WAV).state);
    assertEquals(stems.size(), music.files.size()); // it had begun
    assertTrue(music.rows.isEmpty());
  }

  @Test
  public void leavesNothingWhenALaterStemFails() {
    music.unpublishable = 2;
    assertFails(run("Song.mp3", Phone.MIME, StemFormat.WAV), "Music/stemforge cannot be written");
    assertEquals(stems.size(), music.files.size()); // the first was published, and is gone
  }

  @Test
  public void leavesNothingWhenTheStorageIsFull() {
    music.full = true;
    assertFails(run("Song.mp3", Phone.MIME, StemFormat.WAV), "storage is full");
  }

  @Test
  public void saysThatADocumentIsGone() {
    assertFails(run("gone.mp3", Phone.MIME, StemFormat.WAV), "choose it again");
  }

  @Test
  public void saysThatAFileIsNoAudio() {
    Uri uri = Phone.document("film.mp4", "video/avc", new byte[64]);
    assertFails(run(uri, StemFormat.WAV), "no audio that this phone can read");
    Uri text = Uri.parse("content://documents/text.txt"); // the extractor knows no such format
    assertFails(run(text, StemFormat.WAV), "no audio that this phone can read");
  }

  @Test
  public void saysThatThePhoneHasNoDecoder() {
    assertFails(run("Song.wma", "audio/x-ms-wma", StemFormat.WAV), "no decoder for audio/x-ms-wma");
  }

  @Test
  public void saysThatASongIsEmpty() {
    Uri uri = Phone.document("empty.mp3", Phone.MIME, new byte[0]);
    assertFails(run(uri, StemFormat.WAV), "no sound");
  }

  @Test
  public void saysThatThereIsNoRoom() {
    Phone.setFreeBytes(1000);
    assertFails(run("Song.mp3", Phone.MIME, StemFormat.WAV), "or write them as M4A");
    assertFails(run("Song.mp3", Phone.MIME, StemFormat.M4A), "free: make room");
  }
}
