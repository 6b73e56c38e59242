package stemforge.app;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import android.content.ContentValues;
import android.content.Context;
import android.net.Uri;
import android.os.ParcelFileDescriptor;
import android.provider.MediaStore;
import java.io.FileOutputStream;
import java.io.IOException;
import org.junit.Before;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.annotation.Config;

/** Android 10 and newer: MediaStore's files, which are pending until they are complete. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = {29, 35})
public final class MusicFileTest {
  private final Context context = RuntimeEnvironment.getApplication();
  private Phone.Music music;

  @Before
  public void install() {
    music = Phone.installMusic();
  }

  private int pending(long row) {
    return music.rows.get(row).getAsInteger(MediaStore.MediaColumns.IS_PENDING);
  }

  @Test
  public void aFileIsPendingUntilItIsComplete() throws IOException {
    MusicFile file = MusicFile.create(context, "Song - vocals", StemFormat.M4A);
    try (FileOutputStream out = new ParcelFileDescriptor.AutoCloseOutputStream(file.open())) {
      out.write(7);
    }
    assertEquals(1, pending(1));
    Uri uri = file.publish();
    assertEquals(0, pending(1));
    assertEquals("1", uri.getLastPathSegment());
    assertArrayEquals(new byte[] {7}, music.read(1));
    file.discard();
    assertTrue(music.rows.isEmpty());
  }

  @Test
  public void saysThatAFileCannotBePublished() throws IOException {
    MusicFile file = MusicFile.create(context, "Song - vocals", StemFormat.M4A);
    music.unpublishable = 1;
    Failure failure = assertThrows(Failure.class, file::publish);
    assertTrue(failure.getMessage().startsWith("Music/stemforge cannot be written"));
  }

  private void insert(int pending, String owner) {
    ContentValues row = new ContentValues();
    row.put(MediaStore.MediaColumns.IS_PENDING, pending);
    row.put(MediaStore.MediaColumns.OWNER_PACKAGE_NAME, owner);
    context.getContentResolver().insert(MediaStore.Audio.Media.EXTERNAL_CONTENT_URI, row);
  }

  @Test
  public void removesWhatAKilledRunHasLeft() {
    insert(1, context.getPackageName());
    insert(0, context.getPackageName());
    insert(1, "another.app");
    MusicFile.discardLeftovers(context);
    assertEquals("[2, 3]", music.rows.keySet().toString());
  }
}
